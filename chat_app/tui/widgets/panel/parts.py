"""What the panel is drawn with: rows, bars filled to the share used, colours with one meaning each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from textual.content import Content

from chat_app.text import formatting as fmt

Part = str | tuple[str, str]
# (role, tokens) of each message, in order.
Segments = Sequence[tuple[str, int]]

WIDTH = 32
MUTED = "$foreground 60%"
HEAD = "bold $foreground"
# A colour means one thing in the whole panel, and the same as in the chat.
YOU, REPLIES, SHARE, FULL = "$secondary", "$primary", "$foreground 60%", "$error"
NEARLY_FULL = 0.9
EMPTY = fmt.EMPTY
PHASES = {
    "empty": "no model",
    "idle": "ready",
    "prefill": "reading the prompt",
    "decode": "writing",
    "failed": "failed",
}


def row(name: str, value: str, style: str = "", name_style: str = MUTED) -> list[Part]:
    """A name at the left, a value at the right edge, and a line break."""
    gap = max(1, WIDTH - len(name) - len(value))
    return [(name, name_style), " " * gap, (value, style or "bold"), "\n"]


def lines(parts: Iterable[Part]) -> Content:
    """The parts without their last line break."""
    return Content.assemble(*[*parts][:-1])


def meter(fraction: float, style: str = SHARE) -> list[Part]:
    """A bar of the panel's width, filled to the share used (0 to 1), with its line break."""
    filled = 0 if fraction <= 0 else max(1, round(min(1.0, fraction) * WIDTH))
    return [("█" * filled, style), (EMPTY * (WIDTH - filled), MUTED), "\n"]


def _colour(role: str) -> str:
    return REPLIES if role == "assistant" else YOU


def used_by(segments: Segments, used_n: int, limit_n: int) -> list[Part]:
    """A bar filled to the share of the context in use, in the colours of those whose tokens it holds."""
    if used_n <= 0 or limit_n <= 0:
        return meter(0.0)
    filled = max(1, round(min(1.0, used_n / limit_n) * WIDTH))
    held: list[tuple[str, int]] = []
    room = used_n
    for role, count in segments:
        held.append((role, min(count, room)))
        room -= held[-1][1]
    if room > 0:  # what no reply has told of yet is the prompt under way
        held.append(("user", room))
    cells = fmt.shares([count for _, count in held], filled)
    parts: list[Part] = [("█" * n, _colour(role)) for n, (role, _) in zip(cells, held, strict=True) if n]
    return [*parts, (EMPTY * (WIDTH - filled), MUTED), "\n"]


def by_message(segments: Segments, held_n: int) -> list[Part]:
    """One stretch for each message, scaled to the conversation: solid where the model holds its tokens. After
    a reset all are hollow, and fill again while the next prompt is read."""
    counts = [count for _, count in segments]
    parts: list[Part] = []
    before = 0
    for (role, count), cells in zip(segments, fmt.shares(counts, WIDTH), strict=True):
        held = min(max(held_n - before, 0), count)
        solid = round(cells * held / count) if count else 0
        parts += [("█" * solid, _colour(role)), (EMPTY * (cells - solid), _colour(role))]
        before += count
    return [*(parts or [(EMPTY * WIDTH, MUTED)]), "\n"]


def legend(*more: tuple[str, str, str]) -> list[Part]:
    """What the colours mean: yours, the model's, and `more` as (sign, its style, its meaning)."""
    entries = (("■", YOU, "you"), ("■", REPLIES, "replies"), *more)
    parts: list[Part] = []
    for sign, style, meaning in entries:
        parts += [(f"{sign} ", style), (f"{meaning}  ", MUTED)]
    return [*parts, "\n"]


FREE = (EMPTY, MUTED, "free")
NOT_READ = (EMPTY, MUTED, "to be read")


def course(values: Sequence[float], width: int, top: float) -> str:
    """Values as columns of one line, each in eighths of `top`; neighbours are added up where there are more
    than `width`, so that all columns stand for as many values, give or take one."""
    if not values or top <= 0:
        return ""
    width = min(width, len(values))
    places = [(at * width // len(values), value) for at, value in enumerate(values)]
    sums = [sum(value for _, value in group) for _, group in groupby(places, key=lambda place: place[0])]
    eighths = [min(8, round(value / top * 8)) for value in sums]
    return "".join(" ▁▂▃▄▅▆▇█"[max(n, 1) if value > 0 else 0] for n, value in zip(eighths, sums, strict=True))
