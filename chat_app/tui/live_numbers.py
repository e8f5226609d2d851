"""The live numbers beside the chat: a line, a card, a lab, or hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.screen import Screen
from textual.widgets import Static

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import segments, taken_n
from chat_app.config.settings import PANELS, Panel
from chat_app.tui.widgets.panel.card import one_line
from chat_app.tui.widgets.panel.parts import Segments
from chat_app.tui.widgets.panel.widget import MetricsPanel

DEFAULT: Panel = "card"


class LiveNumbers:
    """`panel` and `line` are the widgets; the style sheet shows the one that the screen's classes name. Where
    there is no room for a panel, its place is taken by the line."""

    def __init__(
        self, screen: Screen[Any], session: ChatController, mode: str, clock: Callable[[], float]
    ) -> None:
        self._screen = screen
        self._session = session
        self._mode: Panel = next((one for one in PANELS if one == mode), DEFAULT)
        self.panel = MetricsPanel(id="panel", clock=clock)
        self.line = Static("", id="metrics-line")

    @property
    def wide(self) -> bool:
        """Whether there is room for a panel."""
        return self._screen.has_class("-wide")

    def show_mode(self, *, update: bool = True) -> None:
        """Give the screen the class that shows the panel, the line, or neither. `update`: all styles below it
        are made anew, which a screen that has none yet does anyway."""
        self._screen.update_classes({f"-panel-{mode}": mode == self._mode for mode in PANELS}, update=update)

    def next_mode(self) -> Panel:
        """One step deeper, hidden behind the last; where there is no room for a panel, line or hidden.
        Returns the new mode."""
        if self.wide:
            self._mode = PANELS[(PANELS.index(self._mode) + 1) % len(PANELS)]
        else:
            self._mode = "line" if self._mode == "hidden" else "hidden"
        self.show_mode()
        self.show()
        return self._mode

    def show(self) -> None:
        """Draw what there is now. What only the lab shows is measured only while it is in sight."""
        self._session.model.watch_steps(self._mode == "lab" and self.wide)
        if self._mode == "hidden":
            return
        shot = replace(self._session.metrics.snapshot(), chat_n=self._taken_n())
        if self._mode in ("card", "lab") and self.wide:
            self.panel.show(shot, self._segments(), self._mode)
        else:
            self.line.update(one_line(shot, max(20, self._screen.size.width - 4)))

    def _taken_n(self) -> int:
        """How many positions of the context the chat takes, the growing reply included."""
        reply = self._session.reply
        if reply is not None and reply.prompt_n:
            return sum(reply.segment())
        return taken_n(self._session.path())

    def _segments(self) -> Segments:
        """Whose tokens the context holds, the growing reply included."""
        path, reply = self._session.path(), self._session.reply
        if reply is None:
            return segments(path)
        found = segments(one for one in path if one.id != reply.message.id)
        before, own = reply.segment()
        known = sum(count for _, count in found)
        return [*found, ("user", before - known), ("assistant", own)] if before >= known else found
