"""Where to export a chat to: a file name whose ending chooses the format."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from chat_app.chat.conversation import Conversation
from chat_app.store.export import ExportError, export_chat
from chat_app.text.paths import read_path
from chat_app.text.sanitize import clean
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.inputs import CleanInput


class ExportScreen(Dialog[Path]):
    """Dismissed with the path written, or None. What went wrong is shown, and the name can be changed."""

    AUTO_FOCUS = "#export-path"

    def __init__(
        self, conversation: Conversation, folder: Path, *, model: str = "", created: str = ""
    ) -> None:
        super().__init__()
        self._conversation = conversation
        self._folder = folder
        self._model = model
        self._created = created

    def compose(self) -> ComposeResult:
        """A box with a proposed file name, and a line for what goes wrong."""
        with Vertical(classes="dialog -wide"):
            yield Static(Content("Export this chat"), classes="dialog-title")
            about = ".md, .html to read · .jsonl OpenAI messages · .json every branch"
            yield Static(Content(about), id="export-about")
            # The id and not the title: a title is no safe file name.
            yield CleanInput(f"{self._conversation.id}.md", id="export-path", select_on_focus=False)
            yield Static(id="export-problem", markup=False)
            yield KeyWords("Enter writes the file · {dialog.close} closes")

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write the chat there and close; on an error say it and stay open."""
        name = event.value.strip()
        if not name:
            return
        try:
            path = self._folder / read_path(name)
            await asyncio.to_thread(
                export_chat, self._conversation, path, model=self._model, created=self._created
            )
        except (ExportError, ValueError) as error:
            self.query_one("#export-problem", Static).update(Content(clean(str(error))))
            return
        self.dismiss(path)
