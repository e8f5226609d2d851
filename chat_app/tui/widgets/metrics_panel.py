"""The live panel: what the engine does now and what it cost. Draws a snapshot, computes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from textwrap import wrap

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Digits, Sparkline, Static

from chat_app.chat.panel_snapshot import PanelSnapshot
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line
from chat_app.tui.widgets.occupancy import OccupancyStrip

Part = str | tuple[str, str]
DIGITS_PERIOD_S = 0.25  # large digits that change more often cannot be read
WIDTH = 32
MUTED = "$foreground 60%"
HEAD = "bold $text-secondary"


def row(name: str, value: str, style: str = "", name_style: str = MUTED) -> list[Part]:
    """A name at the left, a value at the right edge."""
    gap = max(1, WIDTH - len(name) - len(value))
    return [(name, name_style), " " * gap, (value, style or "bold"), "\n"]


def meter(fraction: float, style: str) -> list[Part]:
    """A bar of the panel's width, filled to `fraction` (0 to 1), with its line break."""
    filled, rest = fmt.bar(fraction, WIDTH)
    return [(filled, f"{style} on $foreground 15%"), (rest, "on $foreground 15%"), "\n"]


def phases(shot: PanelSnapshot, *, short: bool = False) -> Content:
    """Prefill, decode, first token: progress while it runs, then time and rate. Short: one row each."""
    parts: list[Part] = row("First token", fmt.duration(shot.ttft_s))
    running = shot.phase == "prefill" and shot.prefill_done_n < shot.prefill_total_n
    if running:
        parts += row("Prefill", f"{shot.prefill_done_n:,} of {shot.prefill_total_n:,}", "bold $text-warning")
        parts += meter(shot.prefill_done_n / shot.prefill_total_n, "$warning")
        left = "" if shot.prefill_eta_s is None else f"{fmt.time_left(shot.prefill_eta_s)} left"
        parts += row(f"  {fmt.rate(shot.prefill_rate)} tok/s", left)
    else:
        parts += _phase("Prefill", shot.prefill_total_n, shot.prefill_s, shot.prefill_rate, short)
    parts += _phase("Decode", shot.decode_n, shot.decode_s, shot.decode_rate, short)
    p50, p95 = fmt.duration(shot.p50_s), fmt.duration(shot.p95_s)
    if short:
        parts += row("Per token", f"p50 {p50} p95 {p95}")
    else:
        parts += row("Per token p50", p50) + row("          p95", p95)
    return Content.assemble(*parts[:-1])


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


def context(shot: PanelSnapshot) -> Content:
    """How much of the context is used, and the bytes of the KV cache; red above 90 %."""
    used = f"{shot.context_n:,} of {shot.context_limit:,}" if shot.context_limit else fmt.UNKNOWN
    style = "bold $text-error" if shot.occupancy > 0.9 else "bold"
    parts: list[Part] = row("CONTEXT", used, style, HEAD)
    parts += meter(shot.occupancy, "$error" if shot.occupancy > 0.9 else "$primary")
    kv = f"{fmt.mib(shot.kv_used_bytes)} of {fmt.mib(shot.kv_bytes)} MiB"
    parts += row("KV cache", kv if shot.kv_bytes is not None else fmt.UNKNOWN)
    return Content.assemble(*parts[:-1])


def reuse(shot: PanelSnapshot) -> Content:
    """What the cache saved the prompt of the last reply, and the drafter's right guesses where it guessed."""
    saved = f" · saved {fmt.duration(shot.saved_s)}" if shot.saved_s else ""
    parts = row("Reused", f"{shot.cached_n:,} tok{saved}" if shot.prefill_total_n else fmt.UNKNOWN)
    if shot.drafted_n:
        share = fmt.percent(shot.accepted_n / shot.drafted_n)
        parts += row("Right guesses", f"{shot.accepted_n:,} of {shot.drafted_n:,}, {share}")
    return Content.assemble(*parts[:-1])


def memory(shot: PanelSnapshot, *, short: bool = False) -> Content:
    """What holds the memory, one kind a row; short: two a row."""
    unknown = "on the server" if shot.untold else fmt.UNKNOWN
    resident = f"{fmt.mib(shot.resident_bytes)} MiB" if shot.resident_bytes else unknown
    parts: list[Part] = row("MEMORY", resident, "bold", HEAD)
    if shot.resident_bytes:
        split = [
            ("weights", shot.weights_bytes or 0, "$primary"),
            ("KV", shot.kv_used_bytes or 0, "$secondary"),
            ("scratch", shot.scratch_bytes or 0, "$accent"),
        ]
        if shot.draft_bytes:
            split.insert(1, ("draft", shot.draft_bytes, "$primary 50%"))
        other = max(0, shot.resident_bytes - sum(size for _, size, _ in split))
        whole = (*split, ("other", other, "$foreground 30%"))
        cells = fmt.shares([size for _, size, _ in whole], WIDTH)
        parts += [("█" * n, colour) for n, (_, _, colour) in zip(cells, whole, strict=True)]
        parts.append("\n")
        in_row = 2 if short else 1
        unit = "" if short else " MiB"
        for place, (name, size, colour) in enumerate(whole):
            value = f"{fmt.mib(size)}{unit}"
            last = place % in_row == in_row - 1
            width = WIDTH // in_row - 2 - (0 if last else 2)  # the square before, a gap between two
            gap = " " * max(1, width - len(name) - len(value))
            parts += [("■ ", colour), (name, MUTED), gap, (value, "bold"), "\n" if last else "  "]
    return Content.assemble(*parts[:-1])


def engine(shot: PanelSnapshot, *, short: bool = False) -> Content:
    """The backend and its threads; `short` fits both on one line."""
    if not shot.backend:
        return Content("")
    if shot.untold:
        return _engine_elsewhere(shot, short=short)
    threads = f"{shot.threads} thread{'s' if shot.threads != 1 else ''}"
    if short:
        name = clean_line(shot.backend.partition(" (")[0], WIDTH - len(threads) - len("ENGINE") - 3)
        return Content.assemble(*row("ENGINE", f"{name}, {threads}", MUTED, HEAD)[:-1])
    name, _, details = clean_line(shot.backend).partition(" (")
    lines = [name, *wrap(details.removesuffix(")"), WIDTH), threads]
    return Content.assemble(("ENGINE\n", HEAD), ("\n".join(lines), MUTED))


def _engine_elsewhere(shot: PanelSnapshot, *, short: bool) -> Content:
    """A server, and what it does not tell."""
    if short:
        return Content.assemble(*row("ENGINE", clean_line(shot.backend, WIDTH - 7), MUTED, HEAD)[:-1])
    lines = [clean_line(shot.backend, WIDTH), *wrap(f"Not told: {shot.untold}.", WIDTH)]
    return Content.assemble(("ENGINE\n", HEAD), ("\n".join(lines), MUTED))


def one_line(shot: PanelSnapshot, width: int) -> Content:
    """The panel on one line: the most important first, as much as fits."""
    if shot.phase == "loading":
        return Content.assemble((fmt.load_label(shot.load_stage, shot.load_fraction), "$text-warning"))
    items: list[Part] = []
    if shot.phase == "prefill" and shot.prefill_total_n:
        left = f", {fmt.time_left(shot.prefill_eta_s)} left" if shot.prefill_eta_s else ""
        items.append((f"prefill {shot.prefill_done_n:,}/{shot.prefill_total_n:,}{left}", "$text-warning"))
    rate = shot.rate_now or shot.rate_mean
    if rate is not None:
        items.append((f"{fmt.rate(rate)} tok/s", "bold $text-primary"))
    if shot.ttft_s is not None:
        items.append((f"first {fmt.duration(shot.ttft_s)}", MUTED))
    if shot.context_limit:
        items.append((f"context {shot.context_n:,}/{shot.context_limit:,}", MUTED))
    if shot.kv_bytes is not None:
        items.append((f"KV {fmt.mib(shot.kv_used_bytes)} MiB", MUTED))
    if shot.cached_n:
        items.append((f"reused {shot.cached_n:,}", MUTED))
    if shot.resident_bytes is not None:
        items.append((f"memory {fmt.mib(shot.resident_bytes)} MiB", MUTED))
    if shot.prefill_rate is not None and shot.phase != "prefill":
        items.append((f"prefill {fmt.rate(shot.prefill_rate)} tok/s", MUTED))
    if shot.backend:
        threads = f" × {shot.threads}" if shot.threads else ""
        items.append((f"{clean_line(shot.backend)}{threads}", MUTED))
    parts: list[Part] = []
    room = width
    for item in items:
        room -= len(item[0]) + 3 * bool(parts)
        if room < 0:
            break
        parts += [(" · ", MUTED), item] if parts else [item]
    return Content.assemble(*parts)


class MetricsPanel(VerticalScroll, can_focus=False):
    """The wide form, at the right of the chat."""

    def __init__(self, *, id: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._digits_due = 0.0
        self._last: tuple[PanelSnapshot, tuple[tuple[str, int], ...], bool] | None = None

    def compose(self) -> ComposeResult:
        """The rate in large digits, its course, and a part for each of the other subjects."""
        with Horizontal(id="panel-speed"):
            yield Digits("", id="panel-digits")
            yield Static("", id="panel-unit")
        yield Sparkline([], id="panel-sparkline")
        for name in ("mean", "phases", "context"):
            yield Static("", id=f"panel-{name}", classes="panel-part")
        yield OccupancyStrip(id="panel-strip")
        for name in ("reuse", "memory", "engine"):
            yield Static("", id=f"panel-{name}", classes="panel-part")

    def show(self, shot: PanelSnapshot, segments: Sequence[tuple[str, int]]) -> None:
        """Draw a snapshot. Cheap when nothing changed; the large digits change at most 4 times a second."""
        now = self._clock()
        rate = shot.rate_now if shot.phase == "decode" else shot.rate_mean
        if now >= self._digits_due or shot.phase != "decode":
            self._digits_due = now + DIGITS_PERIOD_S
            digits = self.query_one("#panel-digits", Digits)
            value = f"{rate:.0f}" if rate and rate >= 100 else f"{rate:.1f}" if rate else "-"
            if digits.value != value:
                digits.update(value)
        short = self.screen.has_class("-short")
        if self._last == (shot, tuple(segments), short):
            return
        self._last = (shot, tuple(segments), short)
        sparkline = self.query_one("#panel-sparkline", Sparkline)
        sparkline.data = [0.0, *shot.rates] if shot.rates else []
        unit = Content.assemble(("tok/s\n", "bold $text-primary"), (self._phase(shot), MUTED))
        self._put("unit", unit)
        self._put("mean", Content.assemble(*row("Mean", f"{fmt.rate(shot.rate_mean)} tok/s")[:-1]))
        self._put("phases", phases(shot, short=short))
        self._put("context", context(shot))
        self.query_one(OccupancyStrip).show(segments, shot.context_n)
        self._put("reuse", reuse(shot))
        self._put("memory", memory(shot, short=short))
        self._put("engine", engine(shot, short=short))

    def _put(self, name: str, content: Content) -> None:
        part = self.query_one(f"#panel-{name}", Static)
        if part.content != content:
            part.update(content)

    @staticmethod
    def _phase(shot: PanelSnapshot) -> str:
        if shot.phase == "loading":
            return fmt.load_label(shot.load_stage, shot.load_fraction)
        return {"empty": "no model", "idle": "ready"}.get(shot.phase, shot.phase)
