"""What stands folded in a message: a line says what it is, and below it all of it when someone wants that."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class Fold(Static, can_focus=False):
    """Folded unless `toggle` was called; a click calls it. Nothing is shown where `shown` has no text."""

    def __init__(self, *, classes: str) -> None:
        super().__init__(classes=classes)
        self.unfolded = False

    @property
    def mark(self) -> str:
        """What its line begins with."""
        return "▾" if self.unfolded else "▸"

    def shown(self) -> Content:
        """What is shown now, by `unfolded`."""
        raise NotImplementedError

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
        self.update(content)
