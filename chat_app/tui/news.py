"""Short news: one sentence at a time, in the row that the screen on top has for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.screen import Screen
from textual.timer import Timer

from chat_app.chat.view import Severity
from chat_app.text.sanitize import clean
from chat_app.tui.widgets.status import StatusRow

NOTES_KEPT = 50
MIN_NOTE_S = 4.0
READ_PER_S = 20  # characters


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence, inert."""

    text: str
    severity: Severity


class News:
    """screens: the stack, the one on top last; one without a row leaves the news to the next below.
    after: calls a function after so many seconds."""

    def __init__(
        self,
        screens: Callable[[], Sequence[Screen[Any]]],
        after: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._screens = screens
        self._after = after
        self._note: Note | None = None
        self._timer: Timer | None = None
        self.said: deque[str] = deque(maxlen=NOTES_KEPT)

    def say(self, text: str, severity: Severity = "information") -> None:
        """Show a sentence for as long as it takes to read; the next one takes its place."""
        text = clean(text)
        self.said.append(text)
        self._note = Note(text, severity)
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._after(MIN_NOTE_S + len(text) / READ_PER_S, self.clear)
        self.draw()

    def clear(self) -> None:
        """Nothing is said any more, before its time is over too."""
        self._note = None
        self.draw()

    def draw(self) -> None:
        """To be called too when another screen comes on top: what is said stays in sight."""
        note = self._note
        for screen in reversed(self._screens()):
            for row in screen.query(StatusRow):
                if note is None:
                    row.clear_note()
                else:
                    row.show_note(note.text, note.severity)
                    note = None
