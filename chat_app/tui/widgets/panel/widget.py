"""The panel at the right of the chat: as a card or as a lab. Draws a snapshot, computes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Digits, Sparkline, Static

from chat_app.chat.panel_snapshot import PanelSnapshot
from chat_app.tui.widgets.panel import card, lab
from chat_app.tui.widgets.panel.parts import MUTED, REPLIES, Segments

Depth = Literal["card", "lab"]
DIGITS_PERIOD_S = 0.25  # large digits that change more often cannot be read
MOST_PARTS = 5
ROOMY_ROWS = 52  # of a terminal in which the lab has two rows for a phase


class MetricsPanel(VerticalScroll, can_focus=False):
    """Hidden or shown by the style sheet; `show` draws what the depth holds."""

    def __init__(self, *, id: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._digits_due = 0.0
        self._last: object = None

    def compose(self) -> ComposeResult:
        """The rate in large digits, its course, and places for the parts of either depth."""
        with Horizontal(id="panel-speed"):
            yield Digits("", id="panel-digits")
            yield Static("", id="panel-unit")
        yield Sparkline([], id="panel-sparkline")
        for place in range(MOST_PARTS):
            yield Static("", id=f"panel-{place}", classes="panel-part")

    def show(self, shot: PanelSnapshot, segments: Segments, depth: Depth) -> None:
        """Draw a snapshot. Cheap when nothing changed; the large digits change at most 4 times a second."""
        now = self._clock()
        rate = shot.rate_now if shot.phase == "decode" else shot.rate_mean
        if now >= self._digits_due or shot.phase != "decode":
            self._digits_due = now + DIGITS_PERIOD_S
            digits = self.query_one("#panel-digits", Digits)
            value = f"{rate:.0f}" if rate and rate >= 100 else f"{rate:.1f}" if rate else "-"
            if digits.value != value:
                digits.update(value)
        short = self.screen.size.height < ROOMY_ROWS
        if self._last == (state := (shot, tuple(segments), depth, short)):
            return
        self._last = state
        self.set_class(depth == "lab", "-lab")
        sparkline = self.query_one("#panel-sparkline", Sparkline)
        sparkline.data = [0.0, *shot.rates] if shot.rates else []
        unit = Content.assemble(("tok/s\n", f"bold {REPLIES}"), (card.phase_text(shot), MUTED))
        self._put("#panel-unit", unit)
        contents = _card(shot, segments) if depth == "card" else _lab(shot, segments, short)
        for place in range(MOST_PARTS):
            self._put(f"#panel-{place}", contents[place] if place < len(contents) else Content(""))

    def turn_page(self) -> None:
        """What stands below comes into sight; behind the end comes the top."""
        if self.scroll_y >= self.max_scroll_y:
            self.scroll_home(animate=False)
        else:
            self.scroll_page_down(animate=False)

    def _put(self, name: str, content: Content) -> None:
        part = self.query_one(name, Static)
        if part.content != content:
            part.display = bool(content)
            part.update(content)


def _card(shot: PanelSnapshot, segments: Segments) -> list[Content]:
    return [card.chat_memory(shot, segments), card.started(shot), card.ram(shot)]


def _lab(shot: PanelSnapshot, segments: Segments, short: bool) -> list[Content]:
    return [
        Content("\n").join((lab.phases(shot, short=short), lab.reuse(shot))),
        lab.chat_memory(shot, segments),
        lab.memory(shot),
        lab.operations(shot),
        lab.engine(shot),
    ]
