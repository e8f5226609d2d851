"""What the prompt box does: sending, recalling, completing commands, the external editor, drafts."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from textual.app import SuspendNotSupported
from textual.widgets import TextArea

from chat_app import slash_commands
from chat_app.screens.chat_actions import ChatActions
from chat_app.widgets.prompt import PromptArea
from chat_app.widgets.status import Offers

MAX_EDITED_BYTES = 8 << 20


class ChatInput(ChatActions):
    """The part of the chat screen around the prompt box."""

    async def on_prompt_area_sent(self, event: PromptArea.Sent) -> None:
        text = event.text
        self.spawn(self._remember(text))
        if slash_commands.is_command(text):
            await self.run_command(text)
            return
        if self.editing is not None and self.session.generating:
            self.note("A reply is being written; press Esc to stop it first.", "warning")
            self.prompt.set_text(text)
            return
        editing, self.editing = self.editing, None
        self.prompt.border_title = ""
        if editing is not None:
            self.spawn(self.session.branches.edit(editing, text))
        else:
            self.spawn(self.session.submit(text))

    async def _remember(self, text: str) -> None:
        """Into the history, on another thread: the disk must not hold up the screen."""
        await asyncio.to_thread(self.prompts.add, text)
        await asyncio.to_thread(self.app.drafts.save, self.draft_name, "")

    def on_prompt_area_recall(self, event: PromptArea.Recall) -> None:
        found = self.prompts.older(self.prompt.text) if event.step < 0 else self.prompts.newer()
        if found is not None:
            self.prompt.set_text(found)

    def on_prompt_area_leave(self) -> None:
        self.app.leave()

    def on_prompt_area_complete(self, _: PromptArea.Complete) -> None:
        found = slash_commands.offers(self.prompt.text)
        if found:
            takes_argument = found[0].usage != found[0].name
            self.prompt.set_text(found[0].name + (" " if takes_argument else ""))

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        if event.text_area.id == "prompt":
            found = slash_commands.offers(event.text_area.text)
            self.query_one("#offers", Offers).show(
                [(one.usage if len(found) == 1 else one.name, one.help) for one in found]
            )

    @property
    def draft_name(self) -> str:
        return self.session.chat.id if len(self.session.conversation) and self.session.chat.id else "new"

    def keep_draft(self) -> None:
        """What is typed and queued comes back when the chat does."""
        typed = [] if self.editing is not None else [self.prompt.text]
        waiting = [text for text in (*self.session.queue, *typed) if text.strip()]
        self.app.drafts.save(self.draft_name, "\n\n".join(waiting))

    def load_draft(self) -> None:
        draft = self.app.drafts.load(self.draft_name)
        if draft and not self.prompt.text:
            self.prompt.set_text(draft)

    def action_editor(self) -> None:
        """Write the prompt in $VISUAL or $EDITOR."""
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            edited = self._edit_outside(shlex.split(command), self.prompt.text)
        except (OSError, ValueError, SuspendNotSupported) as error:
            self.note(f"The editor {command!r} could not be used: {error}", "error")
            return
        if edited is not None:
            self.prompt.set_text(edited)
            self.prompt.focus()

    def _edit_outside(self, command: list[str], text: str) -> str | None:
        """The text as the editor left it; None where the editor failed. The file is this user's alone."""
        handle, name = tempfile.mkstemp(prefix="llama-chat-", suffix=".md")
        path = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            with self.app.suspend():
                code = subprocess.run([*command, name], check=False).returncode
            if code != 0:
                self.note(f"The editor ended with code {code}; the prompt is unchanged.", "warning")
                return None
            with path.open("rb") as edited:
                return edited.read(MAX_EDITED_BYTES).decode("utf-8", "replace").rstrip("\n")
        finally:
            path.unlink(missing_ok=True)
