"""What the small screens over the chat have in common: a box in the middle, Esc leaves."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.messages import Prune
from textual.screen import ModalScreen

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """Give it one container of the class `dialog`. Esc closes it without a result."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", id="dialog.close")]

    @on(Prune)
    def end_work(self) -> None:
        """The screen goes. Textual removes its widgets first and ends its workers last, so that one that came
        back from a wait in between would look for widgets that are no more."""
        self.workers.cancel_node(self)

    def action_close(self) -> None:
        self.dismiss(None)
