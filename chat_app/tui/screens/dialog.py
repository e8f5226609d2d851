"""What the small screens over the chat have in common: a box in the middle, a row for news, Esc leaves."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.messages import Prune
from textual.screen import ModalScreen

from chat_app.tui.widgets.status import NewsWanted, StatusRow

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """Give it one container of the class `dialog`. Esc closes it without a result. What it does once it has
    its widgets belongs into `begin`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", id="dialog.close"),
        Binding("ctrl+c", "copy_or_close", "Copy or close", show=False, priority=True),
    ]

    def on_mount(self) -> None:
        """Give it a row for news and call `begin`, unless the app is already ending."""
        if self.app.is_running:  # else Textual mounts it without its widgets
            self.mount(StatusRow())
            self.call_after_refresh(self.post_message, NewsWanted())
            self.begin()

    def on_screen_resume(self) -> None:
        """It is on top (again): what is said is to be seen here."""
        self.post_message(NewsWanted())

    def begin(self) -> None:
        """Nothing, unless a dialog says otherwise."""

    @on(Prune)
    def end_work(self) -> None:
        """The screen goes. Textual removes its widgets first and ends its workers last, so that one that came
        back from a wait in between would look for widgets that are no more."""
        self.workers.cancel_node(self)

    def action_copy_or_close(self) -> None:
        """Ctrl+C copies a selection, else closes. What is under the dialog, the reply and the prompt, is not
        in sight and stays as it is."""
        selected = getattr(self.focused, "selected_text", "") or self.get_selected_text()
        if selected:
            self.app.copy_to_clipboard(selected)
            self.clear_selection()
        else:
            self.action_close()

    def action_close(self) -> None:
        """Close without a result (Esc)."""
        self.dismiss(None)
