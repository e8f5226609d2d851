"""One chat, open, and the promise: a message that `append` has returned for survives crash and power cut."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from dataclasses import dataclass, field

from chat_app.chat.conversation import Conversation, Message, utc_now
from chat_app.store.database import Database, StoreError
from chat_app.store.records import (
    COLUMNS,
    Record,
    build_conversation,
    from_row,
    pack_text,
    to_row,
    unpack_text,
)
from chat_app.store.text_index import index_message
from chat_app.store.trash import count_time, overdue


@dataclass(slots=True)
class ChatDetails:
    """What a chat remembers beside its messages, whose replies tell how they were made. `kind` is "chat" or
    "oneshot"."""

    model: str = ""
    kind: str = "chat"
    created: str = field(default_factory=utc_now)


class Transcript:
    """One chat, in memory and in chats.db. Methods may be called from any thread.

    Several windows may write to one chat: each adds to its own branch, and a reader finds them all.
    `warnings` are sentences for people.
    """

    def __init__(
        self, database: Database, chat_id: str, *, title: str = "", details: ChatDetails | None = None
    ) -> None:
        self.id = chat_id
        self.details = details or ChatDetails()
        self.conversation = Conversation(chat_id, title)
        self.warnings: list[str] = []
        self._database = database
        self._file: tuple[int, int] | None = None  # the one that holds all but the unsaved
        self._noted: tuple[str | None, str] | None = None  # (tip, title) as they are there
        self._unsaved: dict[str, Message] = {}
        self._turn = threading.RLock()

    @property
    def unsaved(self) -> list[Message]:
        """Messages whose `append` has failed so far; the next append, or `retry`, writes them first."""
        with self._turn:
            return list(self._unsaved.values())

    def load(self) -> None:
        """Read the chat. Raises StoreError: there is none, or it cannot be read."""
        with self._turn:
            found = self._read()
            # Damage in an index hides rows without an error: the file is then looked through as a whole.
            if found.has_gaps and self._database.mend():
                found = self._read()
            self.conversation.take_over(found.conversation)
            self.details = found.details
            self._file = self._database.identity()
            self._noted = self._note()
            if found.changed:
                what = "A message was" if found.changed == 1 else f"{found.changed} messages were"
                self.warnings.append(
                    f"{what} changed outside this app or damaged: not all here is as it was said."
                )

    def append(self, message: Message) -> None:
        """Put a message (or its new state) into the file; it is safe there when this returns.

        Raises StoreError with the reason. The message then stays in `conversation` and in `unsaved`: call
        again, or `retry`, or just go on, and it is written first.
        """
        with self._turn:
            if message.id in self.conversation:
                self.conversation.update(message)
            else:
                self.conversation.insert(message)
                self.conversation.select(message.id)
            self._unsaved[message.id] = message
            self._flush()

    def checkpoint(self, message: Message) -> None:
        """Save a reply that is still growing, about once a second: one row anew. As safe as `append`."""
        self.append(message)

    def retry(self) -> None:
        """Write what could not be written before. Raises StoreError again where it still cannot."""
        with self._turn:
            if self._unsaved:
                self._flush()

    def set_title(self, title: str) -> None:
        """Rename the chat. Raises StoreError where the new title could not be saved."""
        with self._turn:
            self.conversation.title = title
            if self._file is not None:
                self._flush("The chat's title is not saved")

    def remember(self, model: str) -> None:
        """Note which model the chat is held with now; it is saved with the next message."""
        with self._turn:
            self.details.model = model

    def close(self) -> None:
        """Note title and tip for the next time. Never raises; may be called twice.

        What could not be saved is tried once more; `unsaved` tells what is still missing."""
        with self._turn:
            with contextlib.suppress(StoreError):
                if self._unsaved or (self._file is not None and self._note() != self._noted):
                    self._flush()
            self._database.close()

    def _read(self) -> StoredChat:
        found = self._database.read(
            lambda connection: read_chat(connection, self.id), f"The chat {self.id} could not be read"
        )
        if found is None:
            raise StoreError(f"There is no chat with the id {self.id!r}.")
        return found

    def _note(self) -> tuple[str | None, str]:
        return self.conversation.tip, self.conversation.title

    def _flush(self, what: str = "The message is not saved") -> None:
        told = len(self._database.notices)
        noted = self._note()
        self._database.write(self._write, what)
        self._unsaved.clear()
        self._file = self._database.identity()
        self._noted = noted
        self.warnings += self._database.notices[told:]

    def _write(self, connection: sqlite3.Connection) -> None:
        due: list[Message] = list(self._unsaved.values())
        known = put_chat(connection, self.conversation, self.details, said=bool(due))
        # New, deleted for good in another window, or the file was replaced: then not all of it is there.
        if not known or self._file != self._database.identity():
            due = list(self.conversation)
        for message in due:
            put_message(connection, self.id, message)


@dataclass(frozen=True, slots=True)
class StoredChat:
    """A chat as it was read; `changed` counts the messages whose checksum disagrees. `has_gaps`: a message is
    named, as a parent or as the tip, that is not there."""

    conversation: Conversation
    details: ChatDetails
    changed: int
    has_gaps: bool


def read_chat(connection: sqlite3.Connection, chat_id: str) -> StoredChat | None:
    """The chat and its whole tree; None where there is none. sqlite3.Error."""
    row = connection.execute(
        "SELECT title, tip, model, kind, created FROM chat WHERE id = ?", (chat_id,)
    ).fetchone()
    if row is None:
        return None
    title, tip, model, kind, created = row
    details = ChatDetails(unpack_text(model), kind, created)
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM message WHERE chat_id = ? ORDER BY seq",
        (chat_id,),
    )
    found = [from_row(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    records: list[Record] = [record for record in found if record is not None]
    conversation = build_conversation(chat_id, unpack_text(title), records)
    if tip in conversation:
        conversation.select(tip)
    changed = sum(not record.intact for record in records) + (len(found) - len(records))
    named = {record.message.parent for record in records} | {tip}
    has_gaps = any(one is not None and one not in conversation for one in named)
    return StoredChat(conversation, details, changed, has_gaps)


def put_chat(
    connection: sqlite3.Connection, conversation: Conversation, details: ChatDetails, *, said: bool = True
) -> bool:
    """Write the chat's own row, its messages apart; whether it was there. A chat that is written to is out of
    the trash. sqlite3.Error."""
    values = {
        "id": conversation.id,
        "title": pack_text(conversation.title),
        "tip": conversation.tip,
        "model": pack_text(details.model),
        "kind": details.kind,
        "created": details.created,
    }
    changed = connection.execute(
        """
        UPDATE chat SET title = :title, tip = :tip, model = :model WHERE id = :id
        """,
        values,
    )
    known = changed.rowcount > 0
    if not known:
        connection.execute(
            """
            INSERT INTO chat (id, title, tip, model, kind, created)
            VALUES (:id, :title, :tip, :model, :kind, :created)
            """,
            values,
        )
    if said or not known:
        _come_first(connection, conversation.id)
    if not known:
        empty_trash(connection)
    return known


def _come_first(connection: sqlite3.Connection, chat_id: str) -> None:
    """A chat in which something was said stands before all others, and not in the trash. sqlite3.Error."""
    count_time(connection)
    connection.execute(
        """
        UPDATE chat SET updated = ?, deleted = NULL, revision = (SELECT max(revision) + 1 FROM chat)
        WHERE id = ?
        """,
        (utc_now(), chat_id),
    )


def put_message(connection: sqlite3.Connection, chat_id: str, message: Message) -> None:
    """Write a message or its new state, and index it once it is whole. sqlite3.Error."""
    row = {"chat_id": chat_id, **to_row(message)}
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name not in ("chat_id", "id"))
    connection.execute(
        f"INSERT INTO message ({names}) VALUES ({values}) "
        f"ON CONFLICT (chat_id, id) DO UPDATE SET {changes}, indexed = 0",
        row,
    )
    if message.status != "partial":
        index_message(connection, chat_id, message)


def empty_trash(connection: sqlite3.Connection) -> None:
    """Remove for good what has been in the trash for long. sqlite3.Error."""
    for chat_id in overdue(connection):
        remove_chat(connection, chat_id)


def remove_chat(connection: sqlite3.Connection, chat_id: str) -> None:
    """Remove a chat and all that belongs to it. sqlite3.Error."""
    for statement in (
        "DELETE FROM search WHERE rowid IN (SELECT seq FROM message WHERE chat_id = ?)",
        "DELETE FROM message WHERE chat_id = ?",
        "DELETE FROM draft WHERE chat_id = ?",
        "DELETE FROM chat WHERE id = ?",
    ):
        connection.execute(statement, (chat_id,))
