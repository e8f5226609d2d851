"""Messages as lines of JSON and back, the reading forgiving: whatever of a damaged file is sound is found.

A line is a valid OpenAI message; what only this app knows stands under the one key `x`. The last thing in a
line is a checksum of all before it, because a flipped bit inside a text is still valid JSON:

    {"role":"user","content":"Hi","x":{"id":"..","parent":null,"time":"..","status":"complete","crc":"89abcdef"}}
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chat_app.chat.conversation import Conversation, Message, as_role, as_status

_TYPED = ("ids", "context", "parameters", "timings")
_OURS = ("id", "parent", "time", "status", "crc")
_SEALED = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"\}\}', re.DOTALL)
_START = re.compile(r'\{"role":')
# Not strict: a flipped bit can put a raw control character into a text that is otherwise readable.
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class Record:
    """A message read from a line. `intact` is False where its checksum disagrees with its bytes."""

    message: Message
    intact: bool
    orphan: bool = False  # the line names no parent of its own: it hangs below the line before


@dataclass(frozen=True, slots=True)
class Damage:
    """What was wrong with a file, and the two ways to mend it.

    A torn end is cut off at `keep_bytes`; with damage in the middle the whole file is rewritten as `mended`.
    """

    warnings: tuple[str, ...] = ()
    torn_only: bool = False
    keep_bytes: int = 0
    mended: bytes = b""


def record_of(message: Message) -> dict[str, Any]:
    """A message as plain JSON values. Numbers JSON has no form for (NaN, infinity) become null."""
    extra = {str(key): value for key, value in message.x.items() if key not in _OURS}
    ours = {
        "id": message.id,
        "parent": message.parent,
        "time": message.time,
        "status": message.status,
        **_plain(extra),
    }
    return {"role": message.role, "content": message.content, "x": ours}


def encode_record(message: Message) -> bytes:
    """One line, newline and checksum included."""
    record = record_of(message)
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 has no bytes for
        body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii")
    sealed = body[:-2]
    return sealed + b',"crc":"%08x"}}\n' % zlib.crc32(sealed)


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


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _usable(key: str, value: Any) -> Any:
    """`value` of an entry as its readers rely on it, or None where it is of no use."""
    match key:
        case "ids":
            return value if _is_counts(value) else None
        case "context":
            return value if _is_counts(value) and len(value) == 2 else None
        case "parameters":
            return value if isinstance(value, dict) else None
        case "timings":
            if not isinstance(value, dict):
                return None
            return {name: number for name, number in value.items() if _is_number(number)}
    return value


def _extra(x: Mapping[str, Any]) -> dict[str, Any]:
    """What the app adds to a message, damage taken out: ids are a list of ids, each timing a number."""
    usable = {key: _usable(key, value) for key, value in x.items() if key not in _OURS}
    return {key: value for key, value in usable.items() if value is not None or key not in _TYPED}


def _message(record: Any, line_number: int) -> tuple[Message, bool] | None:
    """A parsed line as (message, orphan), or None where it is no message at all."""
    if not isinstance(record, dict):
        return None
    role, content, x = as_role(record.get("role")), record.get("content"), record.get("x", {})
    if role is None or not isinstance(content, str) or not isinstance(x, dict):
        return None
    identity, parent, when = x.get("id"), x.get("parent"), x.get("time")
    return (
        Message(
            # A line another program wrote gets an id from its place, which appending never changes.
            identity if isinstance(identity, str) and identity else f"line-{line_number}",
            parent if isinstance(parent, str) else None,
            role,
            content,
            when if isinstance(when, str) else "",
            as_status(x.get("status", "complete")) or "partial",
            _extra(x),
        ),
        "parent" not in x,
    )


def _sealed_rightly(raw: bytes) -> bool:
    found = _SEALED.fullmatch(raw.strip())
    return found is not None and zlib.crc32(found[1]) == int(found[2], 16)


def _whole(line: bytes, number: int) -> Record | None:
    """A line that is one readable message, checksum right or wrong."""
    try:
        parsed = _DECODER.decode(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    found = _message(parsed, number)
    if found is None:
        return None
    # A line of another program never had a checksum. (Inside a text the quotes would be escaped.)
    foreign = "x" not in parsed and b'"crc"' not in line
    return Record(found[0], foreign or _sealed_rightly(line), found[1])


def _salvage(line: bytes, number: int) -> Iterator[Record]:
    """The intact messages inside a bad line: two lines whose newline was lost, or one behind rubbish.

    `{"role":` cannot stand inside a JSON string, where its quotes are escaped."""
    text = line.decode("utf-8", "surrogateescape")
    for start in _START.finditer(text):
        try:
            parsed, end = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        found = _message(parsed, number)
        raw = text[start.start() : end].encode("utf-8", "surrogateescape")
        if found is not None and _sealed_rightly(raw):
            yield Record(found[0], True, found[1])


def _read_line(line: bytes, number: int) -> tuple[list[Record], bool]:
    """The records of one line, and whether it is exactly as it was written."""
    whole = _whole(line, number)
    if whole is not None:
        return [whole], whole.intact
    return list(_salvage(line, number)), not line.strip()


def read_records(data: bytes) -> tuple[list[Record], Damage]:
    """Every record that can be had from a file's bytes, in order, and what was wrong with the rest."""
    *lines, tail = data.split(b"\n")
    records: list[Record] = []
    warnings: list[str] = []
    mended: list[bytes] = []
    for number, line in enumerate(lines, 1):
        found, sound = _read_line(line, number)
        records += found
        if sound:
            mended.append(line + b"\n")
            continue
        # An empty line keeps the numbers of those behind it.
        mended += [encode_record(one.message) for one in found] or [b"\n"]
        if found and not found[0].intact:
            warnings.append(f"Line {number} was changed outside this app: its text may not be what was said.")
        else:
            warnings.append(f"Line {number} is damaged; {len(found)} message(s) could be read from it.")
    found, sound = _read_line(tail, len(lines) + 1)
    records += found
    torn_only = not warnings and not sound and not found
    if sound:
        mended.append(tail)
    else:
        mended += [encode_record(one.message) for one in found]
        warnings.append(f"The file ends in a record that was not finished ({len(tail):,} bytes).")
    return records, Damage(tuple(warnings), torn_only, len(data) - len(tail), b"".join(mended))


def build_conversation(chat_id: str, title: str, records: list[Record]) -> Conversation:
    """The tree of these records. The last record of an id wins, an intact one over a changed one always.

    A message whose parent could not be read hangs below the record before it, so that nothing disappears.
    """
    conversation = Conversation(chat_id, title)
    intact: dict[str, bool] = {}
    before: str | None = None
    for record in records:
        message = record.message
        if message.id in conversation:
            if record.intact or not intact[message.id]:
                conversation.update(replace(message, parent=conversation.get(message.id).parent))
                intact[message.id] = record.intact
        else:
            if record.orphan or (message.parent is not None and message.parent not in conversation):
                message = replace(message, parent=before)
            conversation.insert(message)
            intact[message.id] = record.intact
        before = message.id
    conversation.select(before)
    return conversation
