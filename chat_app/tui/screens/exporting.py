"""`/export`: the chat as Markdown, JSON or OpenAI JSON lines, or the screen as SVG, by the file's ending."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.config.endpoints import model_label
from chat_app.store.export import FORMATS, ExportError, export_chat
from chat_app.text.paths import read_path
from chat_app.text.sanitize import clean

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController
    from chat_app.chat.view import Severity

SVG = ".svg"


def default_name(title: str, chat_id: str) -> str:
    """A file name from a title: letters, digits, dashes. The title is outside text, so nothing else of it."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", clean(title)).strip("-").lower()
    return words[:40].strip("-") or chat_id or "chat"


def target_path(argument: str, title: str, chat_id: str) -> Path:
    """Where `/export ARGUMENT` writes: a file, a folder, an ending alone (`.svg`), or nothing (`.md`).

    Raises ExportError for an ending that no format has.
    """
    name = default_name(title, chat_id)
    if not argument or argument.lower() in (*FORMATS, SVG):
        return Path.cwd() / f"{name}{argument.lower() or '.md'}"
    try:
        path = read_path(argument)
    except ValueError as error:
        raise ExportError(f"Nothing is exported: {clean(str(error))}.") from None
    if path.is_dir():
        return path / f"{name}.md"
    if path.suffix.lower() not in (*FORMATS, SVG):
        known = ", ".join((*FORMATS, SVG))
        raise ExportError(f"A file to export to ends in one of {known}.")
    return path


async def run_export(
    session: ChatController,
    argument: str,
    note: Callable[[str, Severity], object],
    screenshot: Callable[..., str],
) -> None:
    """Write, and say where. A file that exists is never replaced."""
    path = Path(argument)
    conversation = session.conversation
    try:
        path = target_path(argument, conversation.title, session.chat.id)
        if path.suffix.lower() == SVG:
            await asyncio.to_thread(_write_new, path, screenshot(title="llama-chat"))
        elif not len(conversation):
            raise ExportError("There is nothing to export yet.")
        else:
            model = session.model.info.name if session.model.info else model_label(session.settings.model)
            await asyncio.to_thread(export_chat, conversation, path, model=model)
    except FileExistsError:
        note(f"{path} exists already; name another file.", "warning")
    except (ExportError, OSError) as error:
        note(str(error), "error")
    else:
        note(f"Written to {path}.", "information")


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
