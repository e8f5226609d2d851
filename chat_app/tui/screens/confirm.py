"""One question with two answers; the harmless one has the focus."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from chat_app.tui.key_words import with_keys
from chat_app.tui.screens.dialog import Dialog


class ConfirmScreen(Dialog[bool]):
    """Dismissed with True by the button `yes` or the key y alone; with False or None by any other way."""

    AUTO_FOCUS = "#confirm-no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "answer(False)", "No", id="confirm.no"),
        Binding("y", "answer(True)", "Yes", id="confirm.yes"),
    ]

    def __init__(self, title: str, about: Content, *, yes: str, no: str) -> None:
        super().__init__()
        self._title = title
        self._about = about
        self._yes, self._no = yes, no

    def compose(self) -> ComposeResult:
        """The question, what it is about, and two buttons: no stands first."""
        with Vertical(classes="dialog -warning"):
            yield Static(Content(self._title), classes="dialog-title")
            yield Static(self._about, id="confirm-about")
            with Horizontal(classes="dialog-buttons"):
                no = self._no + with_keys(self, " ({confirm.no})")
                yield Button(Content(no), id="confirm-no")
                yes = self._yes + with_keys(self, " ({confirm.yes})")
                yield Button(Content(yes), variant="error", id="confirm-yes")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Close with True for the button `yes`, else with False."""
        self.dismiss(event.button.id == "confirm-yes")

    def action_answer(self, answer: bool) -> None:
        """Close with the answer of the key that was pressed."""
        self.dismiss(answer)
