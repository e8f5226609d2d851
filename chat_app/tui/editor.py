"""The prompt in $VISUAL or $EDITOR."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from chat_app.text.errors import SentenceError
from chat_app.tui.terminal import while_suspended

MAX_EDITED_BYTES = 8 << 20
GRACE_S = 0.5


class EditorError(SentenceError):
    """The editor could not be used; the text is as it was."""


def editor_command() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


async def edit_outside(app: App[Any], text: str) -> str:
    """The text as the editor left it. The file is this user's alone.

    The event loop goes on meanwhile, without drawing: a reply is still taken in and saved, and a signal ends
    the editor and the app. Raises EditorError.
    """
    command = editor_command()
    try:
        handle, name = tempfile.mkstemp(prefix="llama-chat-", suffix=".md")
        path = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            code = await while_suspended(app, _run([*shlex.split(command), name]))
            with path.open("rb") as edited:
                found = edited.read(MAX_EDITED_BYTES).decode("utf-8", "replace").rstrip("\n")
        finally:
            path.unlink(missing_ok=True)
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
