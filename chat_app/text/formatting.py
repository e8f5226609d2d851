"""Numbers as people read them. One way for the whole app: s and ms, MiB, tok/s, thousands with commas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

MIB = 1024 * 1024
UNKNOWN = "–"
EMPTY = "░"  # of a bar what is not filled: to be seen without any colour
_EIGHTHS = " ▏▎▍▌▋▊▉"


def duration(seconds: float | None) -> str:
    """Seconds as `1.2 ms`, `340 ms`, `1.25 s`, `12.5 s` or `2:05 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"


def time_left(seconds: float) -> str:
    """A guess, so without a fraction: "26 s"."""
    return f"{max(1, round(seconds))} s" if seconds < 60 else duration(seconds)


def clock_time(iso: str, now: datetime) -> str:
    """A moment (ISO 8601) in `now`'s time zone: `14:03`, with the date unless it is the same; empty for what
    is no moment."""
    try:
        moment = datetime.fromisoformat(iso).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%H:%M" if moment.date() == now.date() else "%Y-%m-%d %H:%M")


def rate(per_second: float | None) -> str:
    """Tokens/s without the unit; one decimal below 100."""
    if per_second is None:
        return UNKNOWN
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}"


def mib(n_bytes: float | None) -> str:
    """Bytes in MiB without the unit; one decimal below 10."""
    if n_bytes is None:
        return UNKNOWN
    value = n_bytes / MIB
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"


def memory(n_bytes: float) -> str:
    """`274 MiB`, or `4.5 GiB` from 1 GiB on."""
    return f"{mib(n_bytes)} MiB" if n_bytes < 1024 * MIB else f"{n_bytes / (1024 * MIB):,.1f} GiB"


def memory_of(used_bytes: float, all_bytes: float) -> str:
    """`274 MiB of 23.5 GiB`; a unit that both have stands once."""
    whole = memory(all_bytes)
    return f"{memory(used_bytes).removesuffix(whole[-4:])} of {whole}"


def file_size(n_bytes: int) -> str:
    """`812 bytes`, `4.1 KiB` or `16 MiB`."""
    if n_bytes < 1024:
        return f"{n_bytes} byte{'' if n_bytes == 1 else 's'}"
    return f"{n_bytes / 1024:,.1f} KiB" if n_bytes < MIB else f"{mib(n_bytes)} MiB"


def percent(fraction: float) -> str:
    """1 is 100 %; one decimal below 10 %."""
    return f"{fraction * 100:.0f} %" if fraction >= 0.0995 or fraction == 0 else f"{fraction * 100:.1f} %"


def without_details(backend: str) -> str:
    """A backend's name without what it says in parentheses: how the weights are kept."""
    return backend.partition(" (")[0]


def bar(fraction: float, width: int) -> tuple[str, str]:
    """(filled, rest) of a bar `width` cells wide, filled to an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    full, part = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[part] if part else "")
    return filled, EMPTY * (width - len(filled))


def shares(values: Iterable[float], width: int) -> list[int]:
    """Whole cells for each value, together `width` (0 of nothing), every positive value at least one
    where there is room: the largest remainders get the cells left over."""
    numbers = [max(0.0, value) for value in values]
    total = sum(numbers)
    if total <= 0 or width <= 0:
        return [0] * len(numbers)
    exact = [value / total * width for value in numbers]
    cells = [max(int(part), 1 if part > 0 else 0) for part in exact]
    order = sorted(range(len(cells)), key=lambda i: exact[i] - cells[i], reverse=True)
    while sum(cells) < width:
        cells[order[0]] += 1
        order.append(order.pop(0))
    while sum(cells) > width:
        cells[max(range(len(cells)), key=cells.__getitem__)] -= 1
    return cells


_STAGES = {"kernels": "compiling kernels", "connecting": "connecting", "waiting": "server busy, waiting"}


def load_label(stage: str, fraction: float | None) -> str:
    """What a model's load is doing: `loading 43 %`, that kernels are compiled, which happens once, or that a
    server is waited for."""
    if stage in _STAGES:
        return _STAGES[stage]
    return "loading" if fraction is None else f"loading {fraction * 100:.0f} %"


def reply_line(x: dict[str, Any]) -> str:
    """The line below a reply: `128 tokens · 209 tok/s · 38 ms to the first`; empty without timings."""
    timings = x.get("timings")
    if not isinstance(timings, dict):
        return ""
    try:
        n = int(timings["predicted_n"])
        parts = [f"{n:,} token{'s' if n != 1 else ''}"]
        if n > 1:
            parts.append(f"{rate(float(timings['predicted_per_second']))} tok/s")
        if timings.get("ttft_ms"):
            parts.append(f"{duration(float(timings['ttft_ms']) / 1e3)} to the first")
        if timings.get("cache_n"):
            parts.append(f"{int(timings['cache_n']):,} reused")
    except (KeyError, TypeError, ValueError):
        return ""  # a transcript from elsewhere, or damaged
    return " · ".join(parts)


def verbose_timings(timings: dict[str, Any], load_s: float | None) -> str:
    """ollama's `--verbose` lines, for `/stats`. A number that the transcript lacks is shown as unknown."""

    def number(name: str) -> float | None:
        value = timings.get(name)
        return value if isinstance(value, int | float) else None

    def shown(name: str, form: str) -> str:
        value = number(name)
        return UNKNOWN if value is None else form.format(value)

    def seconds(name: str) -> float | None:
        value = number(name)
        return None if value is None else value / 1e3

    prompt_s, predicted_s = seconds("prompt_ms"), seconds("predicted_ms")
    total_s = None if prompt_s is None or predicted_s is None else prompt_s + predicted_s
    lines = [
        ("total duration", duration(total_s)),
        ("load duration", duration(load_s)),
        ("prompt eval count", shown("prompt_n", "{} token(s)")),
        ("prompt eval duration", duration(prompt_s)),
        ("prompt eval rate", shown("prompt_per_second", "{:.2f} tokens/s")),
        ("eval count", shown("predicted_n", "{} token(s)")),
        ("eval duration", duration(predicted_s)),
        ("eval rate", shown("predicted_per_second", "{:.2f} tokens/s")),
        ("time to first token", duration(seconds("ttft_ms"))),
    ]
    return "\n".join(f"{name + ':':<22}{value}" for name, value in lines)


class Transfer:
    """What is said of bytes on their way: how many, how fast, and how long that takes yet.

    The rate is of what has come since the first look: a download that goes on began with something.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, int] | None = None

    def text(self, done_bytes: int, total_bytes: int) -> str:
        """`done_bytes` of `total_bytes`, the rate, and the time that is left at that rate."""
        now = self._clock()
        if self._began is None or done_bytes < self._began[1]:
            self._began = now, done_bytes
        seconds, n_bytes = now - self._began[0], done_bytes - self._began[1]
        parts = [f"{mib(done_bytes)} of {mib(total_bytes)} MiB"]
        if seconds > 0 and n_bytes:
            parts.append(f"{mib(n_bytes / seconds)} MiB/s")
            if total_bytes > done_bytes:
                parts.append(f"{time_left((total_bytes - done_bytes) * seconds / n_bytes)} left")
        return " · ".join(parts)
