"""A chat as a file for others: Markdown to read, OpenAI JSON lines to train on, JSON with every branch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from chat_app.chat.conversation import Conversation
from chat_app.files.durable import replace_file
from chat_app.store.records import to_json as message_json
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean, clean_line

FORMATS: Final = {".md": "markdown", ".jsonl": "openai", ".json": "json"}
_HEADINGS: Final = {"system": "System", "user": "You", "assistant": "Assistant"}
_MARKS: Final = {
    "partial": "*(not finished)*",
    "stopped": "*(stopped)*",
    "failed": "*(failed)*",
}


class ExportError(SentenceError):
    """A chat could not be exported. The message is a sentence for a person."""


def to_markdown(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """The branch shown, with YAML front matter, and without control characters: it will meet a terminal."""
    path = conversation.path()
    head = {
        "title": clean_line(conversation.title),
        "id": conversation.id,
        "model": clean_line(model),
        "created": created or (path[0].time if path else ""),
        "exported_from": "llama-chat",
    }
    # A JSON string is a YAML string too, so no title can break out of the front matter.
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()),
        "---",
    ]
    for message in path:
        lines += ["", f"## {_HEADINGS[message.role]}", "", clean(message.content).rstrip("\n")]
        if message.status in _MARKS:
            lines += ["", _MARKS[message.status]]
    return "\n".join(lines) + "\n"


def to_openai_jsonl(conversation: Conversation, *, system: str | None = None) -> str:
    """The branch shown as one line `{"messages": [...]}`, as fine-tuning services take it."""
    return _json({"messages": conversation.to_messages(system)}) + "\n"


def to_json(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """Every branch with all that is known about each message; `tip` names the end of the branch shown."""
    whole = {
        "format": "llama-chat",
        "version": 1,
        "id": conversation.id,
        "title": conversation.title,
        "model": model,
        "created": created,
        "tip": conversation.tip,
        "messages": [message_json(message) for message in conversation],
    }
    return _json(whole, indent=1) + "\n"


def export_chat(
    conversation: Conversation,
    path: Path,
    *,
    model: str = "",
    created: str = "",
    system: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the chat to `path` in the format its ending names (.md, .jsonl, .json); returns the path.

    The file appears whole or not at all. Raises ExportError: an unknown ending, a file that is there already
    (unless `overwrite`), a disk that refuses.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind == "markdown":
        text = to_markdown(conversation, model=model, created=created)
    elif kind == "openai":
        text = to_openai_jsonl(conversation, system=system)
    elif kind == "json":
        text = to_json(conversation, model=model, created=created)
    else:
        raise ExportError(f"The ending {path.suffix!r} names no format; use .md, .jsonl or .json.")
    try:
        replace_file(path, text.encode(), overwrite=overwrite)
    except FileExistsError as error:
        raise ExportError(f"{path} exists already; nothing was written.") from error
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}.") from error
    return path


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that is readable where it can be: only half surrogate pairs, which UTF-8 lacks, force escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
