"""One attached file as a chat keeps it, and the one place that says how it stands in the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line

DETAIL: Final = "attachments"  # the key among a message's details
NAME_LENGTH: Final = 120


class AttachmentError(SentenceError):
    """A file cannot be attached. The message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text as it was when it was attached: what happens to the file later changes no chat.

    name: as the model and the screen see it. path: absolute. encoding: of the text, or "PDF". file_bytes:
    the file's size. typed: the `@` mention that brought it, empty where an option or command did. cut: only
    the beginning is here. summary: what the model reads in place of a text that was too long; empty: the
    text.
    """

    name: str
    path: str
    text: str
    encoding: str = "UTF-8"
    file_bytes: int = 0
    typed: str = ""
    cut: bool = False
    summary: str = ""

    @property
    def part(self) -> str:
        """What of the file the model reads, in words; empty where that is all."""
        return "its summary" if self.summary else "its beginning" if self.cut else ""

    @property
    def shown_text(self) -> str:
        """The text as people read it: behind the summary, where that stood for it."""
        return f"Summary:\n{self.summary}\n\nThe file:\n{self.text}" if self.summary else self.text

    def to_json(self) -> dict[str, Any]:
        """The record as chats keep and export it."""
        return asdict(self)


_TYPES: Final[Mapping[str, type]] = {
    "name": str,
    "path": str,
    "text": str,
    "encoding": str,
    "file_bytes": int,
    "typed": str,
    "cut": bool,
    "summary": str,
}


def from_json(value: object) -> Attachment | None:
    """The attachment of `to_json`; None where it is none, or damaged."""
    if not isinstance(value, Mapping):
        return None
    known = {key: value[key] for key, kind in _TYPES.items() if type(value.get(key)) is kind}
    return Attachment(**known) if {"name", "text"} <= known.keys() and "path" in known else None


def attachments_of(x: Mapping[str, Any]) -> tuple[Attachment, ...]:
    """What a message's details (`Message.x`) say is attached to it; damaged ones are left out."""
    found = x.get(DETAIL)
    if not isinstance(found, list | tuple):
        return ()
    return tuple(one for one in map(from_json, found) if one is not None)


def details_of(attachments: Iterable[Attachment]) -> dict[str, Any]:
    """The details of a message with these attachments; none without any."""
    records = [one.to_json() for one in attachments]
    return {DETAIL: records} if records else {}


def prompt_text(content: str, attachments: Iterable[Attachment]) -> str:
    """A message as the model reads it: each file between tags that name it, then what was asked.

    The files come first, so that the question can change while what was computed of them stays in the cache.
    """
    return "\n\n".join([*map(_tagged, attachments), *([content] if content else [])])


def _tagged(one: Attachment) -> str:
    name = clean_line(one.name, NAME_LENGTH).replace('"', "'")
    part = ' part="summary"' if one.summary else ' part="beginning"' if one.cut else ""
    return f'<file name="{name}"{part}>\n{(one.summary or one.text).rstrip()}\n</file>'
