"""A chat that comes from elsewhere, and how it gets into the database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from chat_app.chat.conversation import Conversation
from chat_app.store.transcript import ChatDetails, put_chat, put_message


@dataclass(frozen=True, slots=True)
class ImportedChat:
    """`updated` is the time of its last message; `left_out` counts messages that have no place here
    (pictures, calls of tools)."""

    conversation: Conversation
    details: ChatDetails
    updated: str
    left_out: int = 0


def put_imported(connection: sqlite3.Connection, chat: ImportedChat) -> bool:
    """Write the chat, unless one of its id is there, in the trash too; whether it was. sqlite3.Error."""
    key = (chat.conversation.id,)
    if connection.execute("SELECT 1 FROM chat WHERE id = ?", key).fetchone():
        return False
    put_chat(connection, chat.conversation, chat.details)
    for message in chat.conversation:
        put_message(connection, chat.conversation.id, message)
    # Its place in the list is by its own time, behind the chat that was written to last before it.
    connection.execute("UPDATE chat SET updated = '', revision = 0 WHERE id = ?", key)
    before = connection.execute(
        "SELECT revision FROM chat WHERE updated <= ? ORDER BY updated DESC, revision DESC LIMIT 1",
        (chat.updated,),
    ).fetchone()
    connection.execute(
        "UPDATE chat SET updated = ?, revision = ? WHERE id = ?", (chat.updated, *before, *key)
    )
    return True
