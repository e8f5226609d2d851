"""What can be done with a message, to choose from: Enter on a selected message opens it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog

Row = tuple[str, str, str]  # an action of `MessageView`, what it does, its key


class MessageMenu(Dialog[str]):
    """Dismissed with the action chosen, or with None."""

    AUTO_FOCUS = "#message-menu"

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self._rows = rows

    def compose(self) -> ComposeResult:
        """One row for each action, with its key."""
        with Vertical(classes="dialog"):
            yield Static(Content("This message"), classes="dialog-title")
            yield OptionList(*(Option(f"{text}  ({key})") for _, text, key in self._rows), id="message-menu")
            yield KeyWords("Enter does it · {dialog.close} closes")

    def begin(self) -> None:
        """Mark the first action."""
        self.query_one(OptionList).highlighted = 0  # so that Enter does what one sees marked

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the action of the row."""
        self.dismiss(self._rows[event.option_index][0])
