"""A message as a row of chats.db and as plain JSON, and back; details that are damaged are taken out."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from chat_app.attachments.attachment import DETAIL, attachments_of, details_of
from chat_app.chat.conversation import Conversation, Message, as_role, as_status

# Details of a message (`Message.x`) that have a column; the others are in `more`.
_TEXT_DETAILS: Final = ("thought", "model", "model_sha256", "stop_reason")
_JSON_DETAILS: Final = ("attachments", "ids", "parameters", "seed", "timings")
_OWN: Final = ("id", "parent", "time", "status", "crc")
_TREE: Final = ("id", "parent", "role", "content", "time", "status")
COLUMNS: Final = (*_TREE, *_TEXT_DETAILS, *_JSON_DETAILS, "more", "checksum")


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it was read. `intact` is False where its checksum disagrees with its text."""

    message: Message
    intact: bool = True
    orphan: bool = False  # it names no parent of its own: it hangs below the record before


def pack_text(text: str) -> str | bytes:
    """`text` as SQLite takes it: bytes where it holds half a surrogate pair, which UTF-8 has no form for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def unpack_text(value: object) -> str:
    """The text that `pack_text` packed; "" for NULL."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def pack_json(value: Any) -> str:
    """ASCII, so that any text fits. Numbers that JSON has no form for (NaN, infinity) become null."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def unpack_json(value: object) -> Any:
    """The value, None where it is damaged or missing."""
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None


def to_row(message: Message) -> dict[str, Any]:
    """The columns of a message, its checksum among them."""
    more = {str(key): value for key, value in message.x.items() if key not in _OWN}
    texts = {key: more.pop(key) for key in _TEXT_DETAILS if isinstance(more.get(key), str)}
    values = {key: more.pop(key) for key in _JSON_DETAILS if key in more}
    row: dict[str, Any] = {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "content": pack_text(message.content),
        "time": message.time,
        "status": message.status,
        **{key: pack_text(texts[key]) if key in texts else None for key in _TEXT_DETAILS},
        **{key: pack_json(values[key]) if key in values else None for key in _JSON_DETAILS},
        "more": pack_json(more) if more else None,
    }
    return row | {"checksum": _checksum(row)}


def from_row(row: Mapping[str, Any] | sqlite3.Row) -> Record | None:
    """The message of a row; None where it is none at all."""
    found = {key: row[key] for key in COLUMNS}
    role, identity = as_role(found["role"]), found["id"]
    if role is None or not isinstance(identity, str):
        return None
    details: dict[str, Any] = {}
    for key in _TEXT_DETAILS:
        if found[key] is not None:
            details[key] = unpack_text(found[key])
    for key in _JSON_DETAILS:
        if found[key] is not None:
            details[key] = unpack_json(found[key])
    more = unpack_json(found["more"])
    checksum = found.pop("checksum")
    return Record(
        Message(
            identity,
            found["parent"] if isinstance(found["parent"], str) else None,
            role,
            unpack_text(found["content"]),
            unpack_text(found["time"]),
            as_status(found["status"]) or "partial",
            usable_details({**(more if isinstance(more, dict) else {}), **details}),
        ),
        intact=checksum == _checksum(found),
    )


def to_json(message: Message) -> dict[str, Any]:
    """The OpenAI message, with what only this app knows of it under the one key `x`."""
    extra = {str(key): value for key, value in message.x.items() if key not in _OWN}
    ours = {
        "id": message.id,
        "parent": message.parent,
        "time": message.time,
        "status": message.status,
        **_plain(extra),
    }
    return {"role": message.role, "content": message.content, "x": ours}


def from_json(value: Any, fallback_id: str) -> Record | None:
    """The message of `to_json`, or of another program (which knows no `x`); None where it is none at all."""
    if not isinstance(value, dict):
        return None
    role, content, x = as_role(value.get("role")), value.get("content"), value.get("x", {})
    if role is None or not isinstance(content, str) or not isinstance(x, dict):
        return None
    identity, parent, when = x.get("id"), x.get("parent"), x.get("time")
    message = Message(
        identity if isinstance(identity, str) and identity else fallback_id,
        parent if isinstance(parent, str) else None,
        role,
        content,
        when if isinstance(when, str) else "",
        as_status(x.get("status", "complete")) or "partial",
        usable_details({key: one for key, one in x.items() if key not in _OWN}),
    )
    return Record(message, orphan="parent" not in x)


def build_conversation(chat_id: str, title: str, records: Iterable[Record]) -> Conversation:
    """The tree of these records; the last of an id wins.

    A message whose parent could not be read hangs below the record before it, so that nothing disappears.
    """
    conversation = Conversation(chat_id, title)
    before: str | None = None
    for record in records:
        message = record.message
        if message.id in conversation:
            conversation.update(replace(message, parent=conversation.get(message.id).parent))
        else:
            if record.orphan or (message.parent is not None and message.parent not in conversation):
                message = replace(message, parent=before)
            conversation.insert(message)
        before = message.id
    conversation.select(before)
    return conversation


def usable_details(x: Mapping[str, Any]) -> dict[str, Any]:
    """Details as their readers rely on them: ids are a list of ids, each timing a number; other ones go."""
    usable = {key: _USABLE[key](value) if key in _USABLE else value for key, value in x.items()}
    return {key: value for key, value in usable.items() if value is not None or key not in _USABLE}


def _checksum(row: Mapping[str, Any]) -> int:
    # `ascii` and not `repr`: what is printable changes with Python's version.
    return zlib.crc32(
        ascii([row[key] for key in COLUMNS if key not in ("parent", "checksum")]).encode("ascii")
    )


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: mappings, sequences and NumPy scalars made plain, odd numbers null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return _plain(value.item()) if hasattr(value, "item") else str(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < 1e15  # false for NaN and infinity, which this JSON reader accepts


def _counts(value: Any) -> Any:
    return value if isinstance(value, list) and all(map(_is_count, value)) else None


def _logprobs(value: Any) -> Any:
    if not isinstance(value, list):
        return None
    known = (one for one in value if one is not None)
    return value if all(type(one) in (int, float) and _is_number(-one) for one in known) else None


def _pair(value: Any) -> Any:
    return value if _counts(value) is not None and len(value) == 2 else None


def _mapping(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _numbers(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    return {name: number for name, number in value.items() if _is_number(number)}


def _attachments(value: Any) -> Any:
    return details_of(attachments_of({DETAIL: value})).get(DETAIL)


_USABLE: Final[Mapping[str, Callable[[Any], Any]]] = {
    DETAIL: _attachments,
    "ids": _counts,
    "logprobs": _logprobs,
    "chars": _counts,
    "context": _pair,
    "loop": _numbers,
    "parameters": _mapping,
    "timings": _numbers,
}
