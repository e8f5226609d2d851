"""What engineers want to know: every phase, every byte, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from textual.content import Content

from chat_app.chat.panel_snapshot import PanelSnapshot
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line
from chat_app.tui.widgets.panel.parts import (
    FULL,
    HEAD,
    MUTED,
    NEARLY_FULL,
    NOT_READ,
    SHARE,
    WIDTH,
    YOU,
    Part,
    Segments,
    by_message,
    course,
    legend,
    lines,
    meter,
    row,
    used_by,
)

COURSE_WIDTH = 8  # of an operation's layers
NAME_WIDTH = WIDTH - COURSE_WIDTH - 6
OPERATIONS_SHOWN = 6
# Parts of a name that go where it is too long: what takes little time beside the rest.
SIDE = frozenset({"norm", "RoPE", "RoPE of queries", "cache", "SwiGLU", "GeGLU", "clamped SwiGLU"})


def phases(shot: PanelSnapshot, *, short: bool = False) -> Content:
    """Reading and writing: progress while it runs, then time and rate. Short: one row each."""
    parts: list[Part] = row("Started in", fmt.duration(shot.ttft_s))
    if shot.phase == "prefill" and shot.prefill_done_n < shot.prefill_total_n:
        left = "" if shot.prefill_eta_s is None else f"{fmt.time_left(shot.prefill_eta_s)} left"
        parts += row("Reading the prompt", left)
        parts += meter(shot.prefill_done_n / shot.prefill_total_n, YOU)
        rate = f"{fmt.rate(shot.prefill_rate)} tok/s"
        parts += row(f"  {shot.prefill_done_n:,} of {shot.prefill_total_n:,}", rate)
    else:
        name = "Reading" if short else "Reading the prompt"
        parts += _phase(name, shot.prefill_total_n, shot.prefill_s, shot.prefill_rate, short)
    parts += _phase("Writing", shot.decode_n, shot.decode_s, shot.decode_rate, short)
    p50, p95 = fmt.duration(shot.p50_s), fmt.duration(shot.p95_s)
    if short:
        parts += row("Per token", f"p50 {p50} p95 {p95}")
    else:
        parts += row("Per token p50", p50) + row("          p95", p95)
    return lines(parts)


def _phase(name: str, tokens: int, seconds: float, per_second: float | None, short: bool) -> list[Part]:
    """How much, how long, how fast."""
    count = f"{tokens:,} tok" if tokens else fmt.UNKNOWN
    took = fmt.duration(seconds) if seconds > 0 else ""
    rate = f"{fmt.rate(per_second)} tok/s" if seconds > 0 else ""
    if short:
        value = " ".join(one for one in (took, rate) if one)
        if len(name) + len(count) + len(value) + 2 > WIDTH:
            count, value = count.removesuffix(" tok"), value.replace("tok/s", "t/s")
        return row(f"{name} {count}", value)
    return row(name, count) + row(f"  {took}", rate)


def chat_memory(shot: PanelSnapshot, segments: Segments) -> Content:
    """How much of the context is used and by whom, message by message, and the bytes of keys and values."""
    used = f"{shot.context_n:,} of {shot.context_limit:,}" if shot.context_limit else fmt.UNKNOWN
    style = f"bold {FULL}" if shot.occupancy > NEARLY_FULL else "bold"
    kv = f"{fmt.mib(shot.kv_used_bytes)} of {fmt.mib(shot.kv_bytes)} MiB"
    return lines(
        [
            *row("CHAT MEMORY (KV)", used, style, HEAD),
            *used_by(segments, shot.context_n, shot.context_limit),
            *row("by message", kv if shot.kv_bytes is not None else fmt.UNKNOWN),
            *by_message(segments, shot.context_n),
            *legend(NOT_READ),
        ]
    )


def reuse(shot: PanelSnapshot) -> Content:
    """What the cache saved the prompt of the last reply, and the right guesses where something guessed."""
    saved = f" · saved {fmt.duration(shot.saved_s)}" if shot.saved_s else ""
    parts = row("Reused", f"{shot.cached_n:,} tok{saved}" if shot.prefill_total_n else fmt.UNKNOWN)
    if shot.drafted_n:
        share = fmt.percent(shot.accepted_n / shot.drafted_n)
        parts += row("Right guesses", f"{shot.accepted_n:,} of {shot.drafted_n:,}, {share}")
    return lines(parts)


def memory(shot: PanelSnapshot) -> Content:
    """What this program takes of the machine's memory, and for what: one kind a row."""
    if not shot.resident_bytes:
        return lines(row("RAM", "on the server" if shot.untold else fmt.UNKNOWN, "bold", HEAD))
    parts: list[Part] = row("RAM", f"{fmt.mib(shot.resident_bytes)} MiB", "bold", HEAD)
    if shot.machine_bytes:
        share = shot.resident_bytes / shot.machine_bytes
        parts += meter(share, FULL if share > NEARLY_FULL else SHARE)
    kinds = [
        ("weights", shot.weights_bytes or 0),
        ("chat memory (KV)", shot.kv_used_bytes or 0),
        ("work buffers", shot.scratch_bytes or 0),
    ]
    if shot.draft_bytes:
        kinds.insert(1, ("model that guesses", shot.draft_bytes))
    other = max(0, shot.resident_bytes - sum(size for _, size in kinds))
    for name, size in (*kinds, ("Python and libraries", other)):
        parts += row(f"  {name}", fmt.mib(size))
    return lines(parts)


def operations(shot: PanelSnapshot) -> Content:
    """Each operation's share of the last steps' time, and how it is spread over the layers, all on one
    scale; and what watching takes."""
    head = row("TIME BY OPERATION", "share, layers", MUTED, HEAD)
    times = shot.steps
    if times is None:
        when = "on the server" if shot.untold else "while a reply is written"
        return lines([*head, *row("", when, MUTED)])
    seconds: dict[str, float] = {}
    layers: dict[str, list[float]] = {}
    for one in times.operations:  # an operation goes by several names, each of another kind of step
        name = short_name(one.name)
        seconds[name] = seconds.get(name, 0.0) + one.seconds
        layers[name] = [a + b for a, b in zip_longest(layers.get(name, ()), one.by_layer, fillvalue=0.0)]
    shown = sorted(seconds, key=lambda name: -seconds[name])[:OPERATIONS_SHOWN]
    top = max((_column(layers[name]) for name in shown), default=0.0)
    parts = head
    for name in shown:
        share = fmt.percent(seconds[name] / times.total_s) if times.total_s else fmt.UNKNOWN
        columns = course(layers[name], COURSE_WIDTH, top)
        parts += [(f"{name:<{NAME_WIDTH}}", MUTED), (f"{share:>5} ", "bold"), (columns, SHARE), "\n"]
    parts += row("watching takes", f"about {fmt.percent(times.cost_s / max(times.total_s, 1e-9))}", MUTED)
    return lines(parts)


def short_name(name: str) -> str:
    """An operation's name in the room that there is."""
    if len(name) > NAME_WIDTH:
        name = ", ".join(one for one in name.split(", ") if one not in SIDE) or name
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _column(by_layer: Sequence[float]) -> float:
    """What one column of the course stands for, at most."""
    per_column = -(-len(by_layer) // COURSE_WIDTH) if by_layer else 1
    return max(by_layer, default=0.0) * per_column


def engine(shot: PanelSnapshot) -> Content:
    """The backend and its threads; of a server, what it does not tell. How the weights are kept stands in
    /show info."""
    if not shot.backend:
        return Content("")
    if shot.untold:
        told = [clean_line(shot.backend, WIDTH), *wrap(f"Not told: {shot.untold}.", WIDTH)]
        return Content.assemble(("ENGINE\n", HEAD), ("\n".join(told), MUTED))
    threads = f"{shot.threads} thread{'s' if shot.threads != 1 else ''}"
    name = clean_line(fmt.without_details(shot.backend), WIDTH)
    return lines([*row("ENGINE", threads, MUTED, HEAD), (name, MUTED), "\n"])
