"""Searching old chats: every word of the query somewhere in one message, or in the title, whatever the case.

There is no index to build or to go stale. A file is first searched as the bytes it is, which rules out nearly
all of them at once; only lines of the rest are parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chat_app.chat.conversation import Message
from chat_app.store.transcript_meta import MESSAGES, ChatSummary
from chat_app.store.transcript_records import read_records

SNIPPET_LENGTH = 160
_LEAD = 40


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a text, on one line, and the (start, end) of what matched in it."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chat that fits. `message_id` is the newest message that does, None where it is the title."""

    chat: ChatSummary
    message_id: str | None
    snippet: Snippet
    count: int


def split_terms(query: str) -> tuple[str, ...]:
    """The words of a query, folded; a phrase in double quotes is one term."""
    terms: list[str] = []
    for number, part in enumerate(query.split('"')):
        terms += [part.strip()] if number % 2 else part.split()
    return tuple(dict.fromkeys(term.casefold() for term in terms if term))


def search_chats(
    root: Path,
    chats: Sequence[ChatSummary],
    query: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Hit]:
    """The chats (as `store.list()` gave them, newest first) that fit, each as soon as it is found.

    An empty query fits none. Chats that cannot be read are passed over; of damaged ones what is left counts.
    """
    terms = split_terms(query)
    if not terms:
        return
    for chat in chats:
        if cancelled():
            return
        hit = _search_one(root, chat, terms)
        if hit is not None:
            yield hit


def _search_one(root: Path, chat: ChatSummary, terms: Sequence[str]) -> Hit | None:
    fitting = _fitting_messages(root / chat.id / MESSAGES, terms)
    if fitting:
        newest = fitting[-1]
        return Hit(chat, newest.id, make_snippet(newest.content, terms), len(fitting))
    if _fits(chat.title, terms):
        return Hit(chat, None, make_snippet(chat.title, terms), 1)
    return None


def _fitting_messages(path: Path, terms: Sequence[str]) -> list[Message]:
    """The messages that hold every term, in their last state, oldest first."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    if not _may_fit(data, terms):
        return []
    records, _ = read_records(data)
    last = {record.message.id: record.message for record in records}
    return [message for message in last.values() if _fits(message.content, terms)]


def _may_fit(data: bytes, terms: Sequence[str]) -> bool:
    """False where the file surely holds no message that fits: as JSON text it would have to show each term.

    True more often than right: the term may stand in a key, or in two messages. A line in which letters are
    written as `\\uXXXX` (half surrogates, other programs) must be parsed to know.
    """
    if b"\\u" in data:
        return True
    folded = data.decode("utf-8", "replace").casefold()
    return all(json.dumps(term, ensure_ascii=False)[1:-1] in folded for term in terms)


def _fits(text: str, terms: Sequence[str]) -> bool:
    folded = text.casefold()
    return all(term in folded for term in terms)


def make_snippet(text: str, terms: Sequence[str], length: int = SNIPPET_LENGTH) -> Snippet:
    """The surroundings of the first match in `text`, on one line, with every match in it marked.

    terms: folded, as `split_terms` gives them."""
    folded, places = _fold(text)
    found = [at for at in (folded.find(term) for term in terms) if at >= 0]
    start = places[min(found)] if found else 0
    start = 0 if start <= _LEAD else start - _LEAD
    piece = text[start : start + length]
    # One character for one, so that places stay right.
    line = "".join(" " if character in "\n\r\t" else character for character in piece)
    line = ("…" if start else "") + line + ("…" if start + length < len(text) else "")
    return Snippet(line, find_spans(line, terms))


def find_spans(text: str, terms: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Where the terms stand in `text`, as (start, end) pairs in order that do not touch each other."""
    folded, places = _fold(text)
    found: list[tuple[int, int]] = []
    for term in terms:
        at = folded.find(term)
        while at >= 0:
            end = at + len(term)
            found.append((places[at], places[end - 1] + 1))
            at = folded.find(term, end)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """`text` folded, and for each character of that the place in `text` it came from.

    Folding may lengthen a text (ß becomes ss), so a place in the one is not a place in the other."""
    folded = text.casefold()
    if len(folded) == len(text):
        return folded, range(len(text))
    parts = [character.casefold() for character in text]
    return "".join(parts), [place for place, part in enumerate(parts) for _ in part]
