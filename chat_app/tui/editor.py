"""The prompt in $VISUAL or $EDITOR."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import Callable
from typing import Any

from textual.app import App, SuspendNotSupported

from chat_app.chat.view import Severity
from chat_app.text.errors import SentenceError
from chat_app.tui.editor_file import editor_file
from chat_app.tui.terminal.app import while_suspended
from chat_app.tui.widgets.prompt import PromptArea

MAX_EDITED_BYTES = 8 << 20
GRACE_S = 0.5


class EditorError(SentenceError):
    """The editor could not be used; the text is as it was."""


def editor_command() -> str:
    """The command line as the user set it, `vi` where nothing is set."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


class OutsideEditor:
    """Takes the text of `prompt` to the editor and back. `note` says why that failed."""

    def __init__(self, prompt: PromptArea, note: Callable[[str, Severity], None]) -> None:
        self._prompt = prompt
        self._note = note
        self._is_open = False

    async def edit(self, *, in_memory: bool) -> None:
        """Nothing where it is open already. `in_memory`: see `editor_file`."""
        if self._is_open:
            return
        self._is_open = True
        try:
            edited = await edit_outside(self._prompt.app, self._prompt.text, in_memory=in_memory)
        except EditorError as error:
            self._note(str(error), "error")
            return
        finally:
            self._is_open = False
        self._prompt.set_text(edited)
        self._prompt.focus()


async def edit_outside(app: App[Any], text: str, *, in_memory: bool) -> str:
    """The text as the editor left it. `in_memory`: see `editor_file`.

    The event loop goes on meanwhile, without drawing: a reply is still taken in and saved, and a signal ends
    the editor and the app. Raises EditorError.
    """
    command = editor_command()
    try:
        with editor_file(text, in_memory=in_memory) as path:
            code = await while_suspended(app, _run([*shlex.split(command), str(path)]))
            with path.open("rb") as edited:
                found = edited.read(MAX_EDITED_BYTES).decode("utf-8", "replace").rstrip("\n")
    except (OSError, ValueError, SuspendNotSupported) as error:
        raise EditorError(f"The editor {command!r} could not be used: {error}") from error
    if code != 0:
        raise EditorError(f"The editor ended with code {code}; the prompt is unchanged.")
    return found


async def _run(command: list[str]) -> int:
    """Its exit code. An editor does not outlive the app."""
    editor = await asyncio.create_subprocess_exec(*command)
    try:
        return await editor.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            editor.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(editor.wait(), GRACE_S)
            editor.kill()
        raise
