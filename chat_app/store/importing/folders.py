"""What version 0.1 kept: a folder a chat, a file of prompts, a file a draft. Read, never changed.

    chats/20261123-120501-9f3a1c07/messages.jsonl   one message a line: {"role", "content", "x": {...}}
                                   meta.json        title, model, the end of the branch last shown
    prompts.jsonl                                   {"prompt", "time"}
    drafts/CHAT.txt

They are taken over once, in the transaction that makes chats.db, and stay where they are. What cannot be read
is left out: a line that is no message, a folder that is no chat.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from chat_app.config.paths import Paths
from chat_app.store.importing.chat import ImportedChat, put_imported
from chat_app.store.prompts import put_draft, put_prompt
from chat_app.store.records import Record, build_conversation, from_json
from chat_app.store.transcript import ChatDetails
from llama_core.ordinary_files import read_ordinary

CHAT_ID: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6,32}")
DRAFTS_KEPT: Final = 100
# Not strict: a flipped bit can put a raw control character into a text that is otherwise readable.
_DECODER: Final = json.JSONDecoder(strict=False)


def there_are_any(paths: Paths) -> bool:
    """Whether 0.1 left something to take over."""
    return any(path.exists() for path in (paths.old_chats, paths.old_prompts, paths.old_drafts))


def take_over(connection: sqlite3.Connection, paths: Paths) -> None:
    """Put all of it into a new database. sqlite3.Error."""
    for chat in old_chats(paths.old_chats):
        put_imported(connection, chat)
    for text, time in _old_prompts(paths.old_prompts):
        put_prompt(connection, text, time)
    for chat_id, text in _old_drafts(paths.old_drafts):
        put_draft(connection, chat_id, text, DRAFTS_KEPT)


def old_chats(root: Path) -> Iterator[ImportedChat]:
    """The chats of a folder of chats that hold a message, oldest first."""
    try:
        names = sorted(name for name in os.listdir(root) if CHAT_ID.fullmatch(name))
    except OSError:
        return
    for name in names:
        chat = read_old_chat(root / name)
        if chat is not None:
            yield chat


def read_old_chat(folder: Path) -> ImportedChat | None:
    """One chat; None where the folder holds no message that can be read."""
    records = list(_records(_lines(folder / "messages.jsonl")))
    if not records:
        return None
    try:
        meta = json.loads(read_ordinary(folder / "meta.json"))
    except (OSError, ValueError, RecursionError):
        meta = {}
    known: dict[str, Any] = meta if isinstance(meta, dict) else {}
    conversation = build_conversation(folder.name, str(known.get("title") or ""), records)
    tip = known.get("tip")
    if isinstance(tip, str) and tip in conversation:
        conversation.select(tip)
    times = [message.time for message in conversation if message.time]
    created = known.get("created")
    return ImportedChat(
        conversation,
        ChatDetails(
            model=str(known.get("model") or ""),
            created=created if isinstance(created, str) else min(times, default=""),
        ),
        max(times, default=""),
    )


def _records(lines: Iterator[tuple[int, Any]]) -> Iterator[Record]:
    for number, value in lines:
        # A line another program wrote gets an id from its place.
        record = from_json(value, f"line-{number}")
        if record is not None:
            yield record


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file's lines, with their numbers; lines that are no JSON are left out."""
    try:
        data = read_ordinary(path)
    except OSError:
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            yield number, _DECODER.decode(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue


def _old_prompts(path: Path) -> Iterator[tuple[str, str]]:
    for _, record in _lines(path):
        if isinstance(record, dict) and isinstance(record.get("prompt"), str):
            yield record["prompt"], str(record.get("time") or "")


def _old_drafts(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        paths = sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime_ns)
    except OSError:
        return
    for path in paths:
        try:
            yield path.stem, read_ordinary(path).decode("utf-8", "surrogatepass")
        except (OSError, UnicodeDecodeError):
            continue
