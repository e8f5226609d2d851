"""What stands folded in a message: a line says what it is, and below it all of it when someone wants that."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.widgets import Static

from chat_app.chat.finding import places_of
from chat_app.tui.marks import marked


class Fold(Static, can_focus=False):
    """Folded unless `toggle` was called; a click calls it. `shown` gives what is seen now, by `unfolded`;
    where that has no text, nothing is."""

    def __init__(self, shown: Callable[[], Content], *, classes: str) -> None:
        super().__init__(classes=classes)
        self.shown = shown
        self.unfolded = False
        self._sought = ""
        self._current: int | None = None

    @property
    def mark(self) -> str:
        """What its line begins with."""
        return "▾" if self.unfolded else "▸"

    def toggle(self) -> None:
        """Fold or unfold it."""
        self.unfolded = not self.unfolded
        self.draw()

    def on_click(self) -> None:
        """A click folds or unfolds."""
        self.toggle()

    def draw(self) -> None:
        """Show it as it is now."""
        content = self.shown()
        self.display = bool(content.plain)
        self.update(marked(content, self._sought, self._current))

    def seek(self, text: str, current: int | None) -> None:
        """Mark the places of `text`; where one of them is the `current` one, all is unfolded."""
        if (text, current) != (self._sought, self._current):
            self._sought, self._current = text, current
            self.unfolded = self.unfolded or current is not None
            self.draw()

    def line_of_match(self, number: int) -> int:
        """The line of a place; the last one where it is not shown."""
        content = self.shown()
        places = places_of(content.plain, self._sought)
        end = places[number][0] if number < len(places) else len(content.plain)
        return max(0, len(content[:end].wrap(max(1, self.size.width))) - 1)
