"""What the prompt box does: sending, recalling, completing commands, the external editor, drafts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported
from textual.widgets import TextArea

from chat_app.chat.commands import SLASH
from chat_app.chat.slash import is_command
from chat_app.tui.editor_file import editor_file
from chat_app.tui.screens.chat_actions import ChatActions
from chat_app.tui.widgets.prompt import PromptArea
from chat_app.tui.widgets.status import Offers

if TYPE_CHECKING:
    from chat_app.tui.app import LlamaChatApp

MAX_EDITED_BYTES = 8 << 20
DRAFT_PERIOD_S = 1.0
EDITOR_GRACE_S = 0.5


class ChatInput(ChatActions):
    """The part of the chat screen around the prompt box."""

    def __init__(self, app: LlamaChatApp) -> None:
        super().__init__(app)
        self._drafts: dict[str, str] = {}  # on disk, of what stands in the box, by chat
        self._draft_of: object = None  # the chat whose draft was loaded
        self._draft_turn = asyncio.Lock()
        self._editor_open = False

    def on_mount(self) -> None:
        self.set_interval(DRAFT_PERIOD_S, self._keep_changed_draft)

    def send_prompt(self, text: str) -> None:
        self.spawn(self._remember(text))
        if is_command(text):
            self.run_command(text)
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
            self.session.submit(text)

    async def _remember(self, text: str) -> None:
        """Into the history, on another thread: the disk must not hold up the screen."""
        await asyncio.to_thread(self.prompts.add, text)
        await self._keep_changed_draft()

    def on_prompt_area_recall(self, event: PromptArea.Recall) -> None:
        found = self.prompts.older(self.prompt.text) if event.step < 0 else self.prompts.newer()
        if found is not None:
            self.prompt.set_text(found)

    def on_prompt_area_leave(self) -> None:
        self.app.leave()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        if event.text_area.id == "prompt":
            self.query_one("#offers", Offers).show(SLASH.offers(self.host, event.text_area.text))

    @property
    def draft_name(self) -> str:
        return self.session.chat.id if len(self.session.conversation) and self.session.chat.id else "new"

    def _waiting(self) -> str:
        """What is typed and queued."""
        typed = [] if self.editing is not None else [self.prompt.text]
        return "\n\n".join(text for text in (*self.session.unsent, *typed) if text.strip())

    def keep_draft(self) -> None:
        """What is typed and queued comes back when the chat does. Waits for the disk."""
        for name, text in self._changed_drafts():
            self.app.drafts.save(name, text)

    async def _keep_changed_draft(self) -> None:
        """The same beside the screen: called once a second, so that not even a crash loses more."""
        async with self._draft_turn:
            for name, text in self._changed_drafts():
                await asyncio.to_thread(self.app.drafts.save, name, text)

    def _changed_drafts(self) -> list[tuple[str, str]]:
        """What to write. Text that went with the user to another chat stays with that one alone."""
        wanted = {self.draft_name: self._waiting()}
        if wanted == self._drafts:
            return []
        left, self._drafts = [name for name in self._drafts if name not in wanted], wanted
        return [*wanted.items(), *((name, "") for name in left)]

    def load_draft(self) -> None:
        """A chat has come up: its draft joins what is typed already."""
        if self._draft_of is self.session.chat:
            return
        self._draft_of = self.session.chat
        name = self.draft_name
        if name not in self._drafts and (draft := self.app.drafts.load(name)):
            self._drafts[name] = draft
            self.give_back(draft)

    def give_back(self, text: str) -> None:
        """Text that was not sent goes back into the box, before what is typed there."""
        typed = self.prompt.text
        self.prompt.set_text(f"{text}\n\n{typed}" if typed.strip() else text)

    def action_editor(self) -> None:
        """Write the prompt in $VISUAL or $EDITOR."""
        if not self._editor_open:
            self.spawn(self._edit())

    async def _edit(self) -> None:
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        self._editor_open = True
        try:
            edited = await self._edit_outside(shlex.split(command), self.prompt.text)
        except (OSError, ValueError, SuspendNotSupported) as error:
            self.note(f"The editor {command!r} could not be used: {error}", "error")
            return
        finally:
            self._editor_open = False
        if edited is not None:
            self.prompt.set_text(edited)
            self.prompt.focus()

    async def _edit_outside(self, command: list[str], text: str) -> str | None:
        """The text as the editor left it; None where the editor failed. The file is this user's alone.

        The event loop goes on meanwhile, without drawing: a reply is still taken in and saved, and a signal
        ends the editor and the app.
        """
        with editor_file(text, in_memory=not self.app.settings.save) as path:
            with self.app.batch_update(), self.app.suspend():
                code = await _run_editor([*command, str(path)])
            if code != 0:
                self.note(f"The editor ended with code {code}; the prompt is unchanged.", "warning")
                return None
            with path.open("rb") as edited:
                return edited.read(MAX_EDITED_BYTES).decode("utf-8", "replace").rstrip("\n")


async def _run_editor(command: list[str]) -> int:
    """Its exit code. An editor does not outlive the app."""
    editor = await asyncio.create_subprocess_exec(*command)
    try:
        return await editor.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            editor.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(editor.wait(), EDITOR_GRACE_S)
            editor.kill()
        raise
