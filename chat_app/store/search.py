"""Searching old chats: every word of the query somewhere in one message, or in the title, whatever the case.

The index (FTS5, trigrams) narrows the messages down and ranks them; each that is left is then looked at, so
that words of one or two characters, which have no trigram, and growing replies are found as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chat_app.attachments.attachment import DETAIL, attachments_of
from chat_app.store.database import Database
from chat_app.store.records import unpack_json, unpack_text
from chat_app.store.summary import ChatSummary
from chat_app.store.text_index import index_text, searched_text

_TRIGRAM: Final = 3
SNIPPET_LENGTH = 160
_LEAD = 40
FITS: Final = "fits(CAST(content AS BLOB), CAST(thought AS BLOB), attachments)"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a text, on one line, and the (start, end) of what matched in it."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chat that fits. `message_id` is the message that fits best, None where only the title does."""

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
    database: Database,
    chats: Sequence[ChatSummary],
    query: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Hit]:
    """Those of `chats` that fit: first those whose title does, then as FTS5 ranks their best message (bm25),
    equal ones as they stand in `chats`. An empty query fits none. Raises StoreError.

    Once `cancelled` says so no more is looked at.
    """
    terms = split_terms(query)
    if not terms:
        return []
    return database.read(
        lambda connection: _search(connection, chats, terms, cancelled), "The chats could not be searched"
    )


@dataclass(slots=True)
class _Found:
    """The messages of one chat that fit. `rank`: the lower the better."""

    seq: int
    rank: float
    count: int = 1


def _search(
    connection: sqlite3.Connection,
    chats: Sequence[ChatSummary],
    terms: Sequence[str],
    cancelled: Callable[[], bool],
) -> list[Hit]:

    def fits(*columns: object) -> bool:
        return not cancelled() and _fits(_text_of(*columns), terms)

    connection.create_function("fits", 3, fits)
    found: dict[str, _Found] = {}
    for chat_id, seq, rank in connection.execute(*_question(terms)):
        best = found.setdefault(chat_id, _Found(seq, rank, 0))
        best.count += 1
        if (rank, -seq) < (best.rank, -best.seq):
            best.seq, best.rank = seq, rank
    hits = [(rank, hit) for chat in chats for rank, hit in _hits(connection, chat, found, terms)]
    hits.sort(key=lambda ranked: ranked[0])
    return [hit for _, hit in hits]


def _question(terms: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The SQL whose rows are (chat_id, seq, rank) of every message that fits."""
    words = [term for term in terms if _has_trigram(term)]
    if not words:
        return f"SELECT chat_id, seq, 0.0 FROM message WHERE {FITS}", ()
    match = " AND ".join('"' + word.replace('"', '""') + '"' for word in words)
    return (
        f"""
        SELECT chat_id, seq, bm25(search)
        FROM search JOIN message ON seq = search.rowid
        WHERE search MATCH ? AND indexed = 1 AND {FITS}
        UNION ALL
        SELECT chat_id, seq, 0.0 FROM message WHERE indexed = 0 AND {FITS}
        """,
        (match,),
    )


def _hits(
    connection: sqlite3.Connection, chat: ChatSummary, found: dict[str, _Found], terms: Sequence[str]
) -> list[tuple[tuple[bool, float], Hit]]:
    """The chat's hit with its place in the order, if there is one."""
    in_title = _fits(chat.title, terms)
    best = found.get(chat.id)
    if best is not None:
        message_id, *columns = connection.execute(
            "SELECT id, content, thought, attachments FROM message WHERE seq = ?", (best.seq,)
        ).fetchone()
        hit = Hit(chat, message_id, make_snippet(_text_of(*columns), terms), best.count)
        return [((not in_title, best.rank), hit)]
    if in_title:
        return [((False, 0.0), Hit(chat, None, make_snippet(chat.title, terms), 1))]
    return []


def _text_of(content: object, thought: object, attachments: object) -> str:
    """What is searched of a message, from its columns."""
    files = attachments_of({DETAIL: unpack_json(attachments)})
    return searched_text(unpack_text(content), unpack_text(thought), files)


def _has_trigram(term: str) -> bool:
    """Whether the index can find this folded term."""
    return len(term) >= _TRIGRAM and term == index_text(term)


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
