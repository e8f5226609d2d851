"""meta.json: a chat's title and model, and a cache of what the list of chats shows about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_app.chat.conversation import Conversation, Message
from chat_app.store.durable import replace_file
from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again
from chat_app.store.transcript_records import build_conversation, read_records

META = "meta.json"
MESSAGES = "messages.jsonl"
_OPENING_LENGTH = 80


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A line of the list of chats. Times are ISO 8601 in UTC; `title` falls back to how the chat begins."""

    id: str
    title: str
    created: str
    updated: str
    model: str
    message_count: int
    damaged: bool = False


def read_meta(folder: Path, fs: FileSystem = REAL_FILE_SYSTEM) -> dict[str, Any]:
    """The contents of meta.json; empty where it is missing or damaged, for nothing depends on it."""
    try:
        meta = json.loads(again(lambda: fs.read(folder / META)).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def write_meta(
    folder: Path,
    conversation: Conversation,
    model: str,
    created: str,
    fs: FileSystem = REAL_FILE_SYSTEM,
) -> None:
    """Replace meta.json. `bytes` ties the cached part to the messages it was made from. Raises OSError."""
    meta = {
        "version": 1,
        "id": conversation.id,
        "title": conversation.title,
        "model": model,
        "created": created,
        "tip": conversation.tip,
        "bytes": (folder / MESSAGES).stat().st_size,
        **_overview(conversation),
    }
    replace_file(folder / META, json.dumps(meta, indent=1).encode("ascii") + b"\n", fs)


def summarise(folder: Path, fs: FileSystem = REAL_FILE_SYSTEM) -> ChatSummary | None:
    """A chat in one line: from meta.json while it is up to date, else from the messages. None: no chat."""
    meta = read_meta(folder, fs)
    damaged = False
    try:
        if not _is_fresh(meta, (folder / MESSAGES).stat().st_size):
            records, damage = read_records(again(lambda: fs.read(folder / MESSAGES)))
            meta |= _overview(build_conversation(folder.name, "", records))
            damaged = bool(damage.warnings)
    except OSError:
        return None
    if not meta["messages"]:
        return None
    return ChatSummary(
        folder.name,
        str(meta.get("title") or meta["opening"]),
        str(meta.get("created") or meta["updated"]),
        meta["updated"],
        str(meta.get("model", "")),
        meta["messages"],
        damaged,
    )


def _overview(messages: Iterable[Message]) -> Mapping[str, Any]:
    """The cached part: how many messages, how the chat begins, when it was last written to."""
    everything = list(messages)
    opening = next((one.content for one in everything if one.role == "user"), "")
    return {
        "messages": len(everything),
        "opening": " ".join(opening.split())[:_OPENING_LENGTH],
        "updated": max((one.time for one in everything), default=""),
    }


def _is_fresh(meta: Mapping[str, Any], size: int) -> bool:
    return (
        meta.get("bytes") == size
        and isinstance(meta.get("messages"), int)
        and isinstance(meta.get("opening"), str)
        and isinstance(meta.get("updated"), str)
    )
