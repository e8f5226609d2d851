"""Where a text stands in a chat: in what was said, in thoughts, and in attached files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chat_app.attachments.attachment import attachments_of
from chat_app.chat.conversation import Message, thought_of
from chat_app.store.search import find_spans

# In the order in which they stand on the screen.
Part = Literal["files", "thought", "text"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One place: `number` counts those in this part of the message, from 0."""

    message_id: str
    part: Part
    number: int


def find_in_chat(path: Iterable[Message], text: str) -> list[Hit]:
    """All places at which `text` stands, whatever the case, from the first message to the last."""
    return [
        Hit(message.id, part, number)
        for message in path
        for part, said in _parts(message)
        for number in range(len(places_of(said, text)))
    ]


def places_of(said: str, text: str) -> tuple[tuple[int, int], ...]:
    """Where `text` stands in what was said, as (start, end); none for an empty one."""
    return find_spans(said, (text.casefold(),)) if text.strip() else ()


def _parts(message: Message) -> list[tuple[Part, str]]:
    files = "\n".join(one.shown_text for one in attachments_of(message.x))
    return [("files", files), ("thought", thought_of(message)), ("text", message.content)]
