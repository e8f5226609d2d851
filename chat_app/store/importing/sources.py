"""A file or folder with chats, of whatever kind: what it is, and the chats in it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from chat_app.store.database import Database
from chat_app.store.importing.chat import ImportedChat, put_imported
from chat_app.store.importing.folders import CHAT_ID, old_chats, read_old_chat
from chat_app.store.importing.formats import read_chat_json
from chat_app.store.summary import list_chats
from chat_app.store.transcript import StoredChat, read_chat
from chat_app.text.errors import SentenceError
from llama_core.ordinary_files import read_ordinary

CHATGPT_MEMBER: Final = "conversations.json"
_SQLITE: Final = b"SQLite format 3\0"
_KNOWN: Final = (
    "a chats.db, a folder of llama-chat 0.1, JSON or JSON lines of OpenAI messages or of ShareGPT, "
    "or ChatGPT's export"
)


class ChatImportError(SentenceError):
    """A file holds no chat that can be read. The message is a sentence for a person."""


@dataclass(slots=True)
class ImportReport:
    """What became of the chats of a source: ids taken over, ids there before, what could not be read."""

    imported: list[str] = field(default_factory=list)
    there_already: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    n_messages: int = 0
    n_left_out: int = 0


def import_chats(database: Database, path: Path) -> ImportReport:
    """Take over every chat of a file or folder; one that is there already stays as it is.

    Each chat is committed by itself. Raises ChatImportError where there is none to be read, StoreError,
    OSError.
    """
    report = ImportReport()
    for found in read_source(path):
        if isinstance(found, str):
            report.unreadable.append(found)
        elif database.write(partial(_put, found), "Nothing is imported"):
            report.imported.append(found.conversation.id)
            report.n_messages += len(found.conversation)
            report.n_left_out += found.left_out
        else:
            report.there_already.append(found.conversation.id)
    if not report.imported and not report.there_already:
        why = f" ({report.unreadable[0]})" if report.unreadable else ""
        raise ChatImportError(f"{path} holds no chat that can be read{why}. What can be read: {_KNOWN}.")
    return report


def read_source(path: Path) -> Iterator[ImportedChat | str]:
    """The chats, and for each part that is none a few words about where it stands. Raises OSError."""
    if path.is_dir():
        yield from _folder(path)
        return
    start = read_ordinary(path, len(_SQLITE))
    if start == _SQLITE or path.name.startswith("chats.db"):
        yield from _database(path)
    elif zipfile.is_zipfile(path):
        yield from _json_chats(_zipped(path), _time_of(path))
    else:
        yield from _json_chats(path.read_bytes(), _time_of(path))


def _folder(path: Path) -> Iterator[ImportedChat | str]:
    """A folder of 0.1's chats, one of them, or the folder around (`data`, or LLAMA_CHAT_HOME)."""
    if CHAT_ID.fullmatch(path.name):
        chat = read_old_chat(path)
        yield chat if chat is not None else f"{path.name} holds no message"
        return
    for root in (path, path / "chats", path / "data" / "chats"):
        yield from old_chats(root)


def _database(path: Path) -> Iterator[ImportedChat | str]:
    """The chats of another file, damaged ones too: a copy of it is read, and rebuilt where it must be."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "chats.db"
        for end in ("", "-wal"):
            source = path.with_name(f"{path.name}{end}")
            if source.exists():
                shutil.copyfile(source, copy.with_name(f"chats.db{end}"))
        database = Database(copy)
        for summary in database.read(lambda connection: list_chats(connection, None, deleted=False)):
            found = database.read(partial(_read, summary.id))
            if found is None or not len(found.conversation):
                yield f"the chat {summary.id} holds no message"
            else:
                yield ImportedChat(found.conversation, found.details, summary.updated)
        database.close()


def _put(chat: ImportedChat, connection: sqlite3.Connection) -> bool:
    return put_imported(connection, chat)


def _read(chat_id: str, connection: sqlite3.Connection) -> StoredChat | None:
    return read_chat(connection, chat_id)


def _zipped(path: Path) -> bytes:
    """ChatGPT's export as it is downloaded."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.rsplit("/")[-1] == CHATGPT_MEMBER]
        if not names:
            raise ChatImportError(f"{path} holds no {CHATGPT_MEMBER}, as ChatGPT's export does.")
        return archive.read(names[0])


def _json_chats(data: bytes, seen_at: str) -> Iterator[ImportedChat | str]:
    for place, value in _json_values(data):
        chat = read_chat_json(value, seen_at)
        yield chat if chat is not None else f"{place} is no chat"


def _json_values(data: bytes) -> Iterator[tuple[str, Any]]:
    """Each value with its place: the entries of a list, one object, or line by line. None: no JSON at all."""
    text = data.decode("utf-8-sig", "replace")
    whole = _parse(text)
    if isinstance(whole, list):
        for number, value in enumerate(whole, 1):
            yield f"entry {number}", value
    elif whole is not None:
        yield "it", whole
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parse(line)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _time_of(path: Path) -> str:
    moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
