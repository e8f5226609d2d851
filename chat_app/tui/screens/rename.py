"""Another title for a chat in the list."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from chat_app.text.sanitize import clean_line
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.inputs import CleanInput


class RenameScreen(Dialog[str]):
    """Dismissed with the new title, one line that is not blank; with None where the old one stays."""

    AUTO_FOCUS = "#rename-title"

    def __init__(self, title: str, longest: int) -> None:
        """longest: characters that a title may have."""
        super().__init__()
        self._old_title, self._longest = title, longest

    def compose(self) -> ComposeResult:
        """The title, to be changed."""
        with Vertical(classes="dialog"):
            yield Static(Content("Rename this chat"), classes="dialog-title")
            yield CleanInput(clean_line(self._old_title), max_length=self._longest, id="rename-title")
            yield KeyWords("Enter renames · {dialog.close} keeps the title")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with what was typed; a blank title is none."""
        self.dismiss(clean_line(event.value, self._longest).strip() or None)
