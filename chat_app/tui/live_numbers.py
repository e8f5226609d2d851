"""The live numbers beside the chat: in the full panel, in one line, or hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen
from textual.widgets import Static

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import segments
from chat_app.tui.widgets.metrics_panel import MetricsPanel, one_line

MODES = ("full", "line", "hidden")


class LiveNumbers:
    """`panel` and `line` are the widgets; the style sheet shows the one that the screen's classes name."""

    def __init__(
        self, screen: Screen[Any], session: ChatController, mode: str, clock: Callable[[], float]
    ) -> None:
        self._screen = screen
        self._session = session
        self._mode = mode
        self.panel = MetricsPanel(id="panel", clock=clock)
        self.line = Static("", id="metrics-line")

    def show_mode(self) -> None:
        """Give the screen the class that shows the panel, the line, or neither."""
        for mode in MODES:
            self._screen.set_class(mode == self._mode, f"-panel-{mode}")

    def next_mode(self) -> str:
        """Full, one line, hidden; a narrow terminal has no full panel. Returns the new mode."""
        modes = MODES if self._screen.has_class("-wide") else MODES[1:]
        place = modes.index(self._mode) if self._mode in modes else 0
        self._mode = modes[(place + 1) % len(modes)]
        self.show_mode()
        self.show()
        return self._mode

    def show(self) -> None:
        """Draw what there is now."""
        if self._mode == "hidden":
            return
        shot = self._session.metrics.snapshot()
        if self._mode == "full" and self._screen.has_class("-wide"):
            self.panel.show(shot, self._segments())
        else:
            self.line.update(one_line(shot, max(20, self._screen.size.width - 4)))

    def _segments(self) -> list[tuple[str, int]]:
        """Whose tokens the context holds, the growing reply included."""
        path, reply = self._session.path(), self._session.reply
        if reply is None:
            return segments(path)
        found = segments(one for one in path if one.id != reply.message.id)
        before, own = reply.segment()
        known = sum(count for _, count in found)
        return [*found, ("user", before - known), ("assistant", own)] if before >= known else found
