"""The list of chats: one line about each, from one statement."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from chat_app.store.records import unpack_text
from chat_app.text.titles import title_of


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A line of the list of chats. Times are ISO 8601 in UTC; `title` falls back to how the chat begins.
    The chat last written to has the highest `revision`."""

    id: str
    title: str
    created: str
    updated: str
    model: str
    message_count: int
    pinned: bool = False
    kind: str = "chat"
    deleted: str | None = None
    revision: int = 0


def list_chats(connection: sqlite3.Connection, kind: str | None, *, deleted: bool) -> list[ChatSummary]:
    """The chats there are, pinned ones first, then the one last written to; `kind` None: of every
    kind. `deleted`: those in the trash instead. sqlite3.Error."""
    rows = connection.execute(
        """
        SELECT id, title, created, updated, model, pinned, kind, deleted, revision,
            (SELECT count(*) FROM message WHERE chat_id = chat.id) AS messages,
            CASE WHEN title = '' THEN (
                SELECT substr(content, 1, 400) FROM message
                WHERE chat_id = chat.id AND role = 'user' ORDER BY seq LIMIT 1
            ) END
        FROM chat
        WHERE (kind = :kind OR :kind IS NULL) AND (deleted IS NOT NULL) = :deleted
        ORDER BY pinned DESC, revision DESC, updated DESC, id DESC
        """,
        {"kind": kind, "deleted": deleted},
    )
    return [
        ChatSummary(
            chat_id,
            unpack_text(title) or title_of(unpack_text(opening)),
            created,
            updated,
            unpack_text(model),
            count,
            bool(pinned),
            kind_found,
            when,
            rank,
        )
        for chat_id, title, created, updated, model, pinned, kind_found, when, rank, count, opening in rows
    ]
