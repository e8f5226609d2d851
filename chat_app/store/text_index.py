"""What the full-text index holds of a message: its folded text, under the message's row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from chat_app.attachments.attachment import Attachment, attachments_of
from chat_app.chat.conversation import Message, thought_of


def index_message(connection: sqlite3.Connection, chat_id: str, message: Message) -> None:
    """Make a stored message's text findable by the index. sqlite3.Error."""
    key = (chat_id, message.id)
    (seq,) = connection.execute("SELECT seq FROM message WHERE chat_id = ? AND id = ?", key).fetchone()
    text = searched_text(message.content, thought_of(message), attachments_of(message.x))
    connection.execute("INSERT OR REPLACE INTO search (rowid, text) VALUES (?, ?)", (seq, index_text(text)))
    connection.execute("UPDATE message SET indexed = 1 WHERE seq = ?", (seq,))


def searched_text(content: str, thought: str, attachments: Iterable[Attachment]) -> str:
    """What is searched of a message: what it says, then what was thought before, then what is attached."""
    files = ("\n".join([one.name, one.text, *([one.summary] if one.summary else [])]) for one in attachments)
    return "\n".join([content, *([thought] if thought else []), *files])


def index_text(text: str) -> str:
    """Folded, without what ends a text for FTS5 (NUL) and what UTF-8 has no form for (half surrogates)."""
    return text.casefold().replace("\0", " ").encode("utf-8", "replace").decode()
