"""What everybody wants to know, as a card and on one line."""

from __future__ import annotations

from textual.content import Content

from chat_app.chat.panel_snapshot import PanelSnapshot
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line
from chat_app.tui.widgets.panel.parts import (
    FREE,
    FULL,
    HEAD,
    MUTED,
    NEARLY_FULL,
    PHASES,
    REPLIES,
    SHARE,
    YOU,
    Part,
    Segments,
    legend,
    lines,
    meter,
    row,
    used_by,
)


def phase_text(shot: PanelSnapshot) -> str:
    """What the engine does, in a word or three."""
    if shot.phase == "loading":
        return fmt.load_label(shot.load_stage, shot.load_fraction)
    return PHASES.get(shot.phase, shot.phase)


def words_left(shot: PanelSnapshot) -> str:
    """How much the chat may still grow, in words."""
    if not shot.context_limit:
        return fmt.UNKNOWN
    return f"~{shot.words_left:,} words left" if shot.words_left else "full"


def reading(shot: PanelSnapshot) -> list[Part]:
    """How far the prompt is read and how long that takes yet; nothing while none is."""
    if shot.phase != "prefill" or shot.prefill_done_n >= shot.prefill_total_n:
        return []
    done = shot.prefill_done_n / shot.prefill_total_n
    left = "" if shot.prefill_eta_s is None else f"{fmt.time_left(shot.prefill_eta_s)} left"
    return [*row("Reading the prompt", left or fmt.percent(done)), *meter(done, YOU)]


def chat_memory(shot: PanelSnapshot, segments: Segments) -> Content:
    """The context in words, and who fills it; red when it is nearly full."""
    style = f"bold {FULL}" if shot.chat_share > NEARLY_FULL else "bold"
    parts = row("Chat memory", words_left(shot), style, HEAD)
    return lines([*parts, *used_by(segments, shot.chat_n, shot.context_limit), *legend(FREE)])


def started(shot: PanelSnapshot) -> Content:
    """How long one waits for a reply's first word, and what of the prompt was known already."""
    parts = [*reading(shot), *row("Started in", fmt.duration(shot.ttft_s))]
    if shot.cached_n:
        saved = f", saved {fmt.duration(shot.saved_s)}" if shot.saved_s else ""
        parts += row("Reused", f"{fmt.percent(reused(shot))}{saved}")
    return lines(parts)


def reused(shot: PanelSnapshot) -> float:
    """The share of the prompt that did not have to be read again."""
    return shot.cached_n / (shot.cached_n + shot.prefill_total_n)


def ram(shot: PanelSnapshot) -> Content:
    """What this program takes of the machine's memory."""
    if not shot.resident_bytes:
        return lines(row("RAM", "on the server" if shot.untold else fmt.UNKNOWN, "", HEAD))
    if not shot.machine_bytes:
        return lines(row("RAM", fmt.memory(shot.resident_bytes), "", HEAD))
    share = shot.resident_bytes / shot.machine_bytes
    value = fmt.memory_of(shot.resident_bytes, shot.machine_bytes)
    return lines([*row("RAM", value, "", HEAD), *meter(share, FULL if share > NEARLY_FULL else SHARE)])


def one_line(shot: PanelSnapshot, width: int) -> Content:
    """The most important first, as much as fits."""
    if shot.phase == "loading":
        return Content.assemble((phase_text(shot), MUTED))
    items: list[tuple[str, str]] = []
    if shot.phase == "prefill" and shot.prefill_total_n:
        left = f", {fmt.time_left(shot.prefill_eta_s)} left" if shot.prefill_eta_s else ""
        share = fmt.percent(shot.prefill_done_n / shot.prefill_total_n)
        items.append((f"reading the prompt {share}{left}", YOU))
    rate = shot.rate_now or shot.rate_mean
    if rate is not None:
        items.append((f"{fmt.rate(rate)} tok/s", f"bold {REPLIES}"))
    if shot.ttft_s is not None:
        items.append((f"started in {fmt.duration(shot.ttft_s)}", MUTED))
    if shot.context_limit:
        nearly = shot.chat_share > NEARLY_FULL
        items.append((words_left(shot), f"bold {FULL}" if nearly else MUTED))
    if shot.resident_bytes is not None:
        items.append((f"RAM {fmt.memory(shot.resident_bytes)}", MUTED))
    if shot.cached_n:
        items.append((f"reused {fmt.percent(reused(shot))}", MUTED))
    if shot.backend:
        threads = f" × {shot.threads}" if shot.threads else ""
        items.append((f"{clean_line(fmt.without_details(shot.backend))}{threads}", MUTED))
    parts: list[Part] = []
    room = width
    for item in items:
        room -= len(item[0]) + 3 * bool(parts)
        if room < 0:
            break
        parts += [(" · ", MUTED), item] if parts else [item]
    return Content.assemble(*parts)
