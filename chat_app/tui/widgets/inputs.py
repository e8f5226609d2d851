"""Boxes to type into that hold inert text only: what is pasted or set loses what a terminal would obey."""

from __future__ import annotations

from typing import Any

from textual.events import Paste
from textual.widgets import Input, TextArea
from textual.widgets.text_area import Edit, EditResult

from chat_app.text.sanitize import clean, clean_pasted


class CleanInput(Input):
    """Textual's Input; its value is always clean."""

    def validate_value(self, value: str) -> str:
        """Textual asks this before every change of the value."""
        return clean(value)

    def _on_paste(self, event: Paste) -> None:
        event.text = clean_pasted(event.text)  # first: the cursor goes behind what is inserted
        if event.text:
            super()._on_paste(event)
        event.stop()
        event.prevent_default()


class CleanTextArea(TextArea):
    """Textual's TextArea; its text is always clean."""

    def __init__(self, text: str = "", **given: Any) -> None:
        """As `TextArea`."""
        super().__init__(clean(text), **given)

    def load_text(self, text: str) -> None:
        """Replace the whole text by `text`, cleaned."""
        super().load_text(clean(text))

    def edit(self, edit: Edit) -> EditResult:
        """Insert or replace; what comes in is cleaned first."""
        edit.text = clean_pasted(edit.text)  # every insertion comes through here, typed or pasted
        return super().edit(edit)
