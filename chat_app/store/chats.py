"""The chats there are: listed, found, opened, searched, put into the trash and taken out of it."""

from __future__ import annotations

import builtins
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chat_app.chat.conversation import Conversation
from chat_app.kv_files.folder import remove_kv_files
from chat_app.store.database import Database, StoreError
from chat_app.store.records import pack_text
from chat_app.store.summary import ChatSummary, list_chats
from chat_app.store.transcript import ChatDetails, Transcript, remove_chat
from chat_app.store.trash import put_into_trash
from chat_app.store.usage import Usage, usage_by_month

if TYPE_CHECKING:
    from pathlib import Path

    from chat_app.config.paths import Paths
    from chat_app.store.search import Hit

__all__ = ["ChatDetails", "ChatStore", "ChatSummary", "StoreError", "Transcript", "new_chat_id", "open_store"]


def new_chat_id() -> str:
    """UTC time and random digits: `20261123-120501-9f3a1c07`. Safe as a file name."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def open_store(paths: Paths) -> ChatStore:
    """The user's chats; those of version 0.1, in a folder each, are taken over when the file is made."""
    from chat_app.store.importing.folders import take_over, there_are_any

    return ChatStore(
        Database(
            paths.database,
            (lambda connection: take_over(connection, paths)) if there_are_any(paths) else None,
        ),
        paths.kv_files,
    )


class ChatStore:
    """All chats of one file. Nothing is created before the first message of a chat is appended. kv_files: the
    folder in which engines keep what they computed of a chat, which goes with it."""

    def __init__(self, database: Database, kv_files: Path | None = None) -> None:
        self.database = database
        self._kv_files = kv_files

    def create(self, *, model: str, title: str = "", kind: str = "chat") -> Transcript:
        """A new chat, not in the file yet."""
        details = ChatDetails(model=model, kind=kind)
        return Transcript(self.database, new_chat_id(), title=title, details=details)

    def open(self, chat_id: str) -> Transcript:
        """A chat to read and continue. Raises StoreError where there is none or it cannot be read."""
        transcript = Transcript(self.database, chat_id)
        transcript.load()
        return transcript

    def read(self, chat_id: str) -> Conversation:
        """The messages of a chat, to look at only. Raises StoreError."""
        return self.open(chat_id).conversation

    def list(self, kind: str | None = "chat", *, deleted: bool = False) -> builtins.list[ChatSummary]:
        """Every chat: pinned ones first, then the one last written to. `kind` None: with
        one-shot runs. `deleted`: those in the trash instead. Raises StoreError."""
        return self.database.read(lambda connection: list_chats(connection, kind, deleted=deleted))

    def latest(self, kind: str | None = "chat") -> ChatSummary | None:
        """The chat of this kind (None: of any) last written to, outside the trash. Raises StoreError."""
        return max(self.list(kind), key=lambda chat: (chat.revision, chat.updated), default=None)

    def find(self, text: str, *, deleted: bool = False) -> str:
        """The id that `text` is or begins (or ends); `deleted`: in the trash. Raises StoreError for none or
        several."""
        ids = [chat.id for chat in self.list(None, deleted=deleted)]
        fitting = [one for one in ids if one == text] or [
            one for one in ids if text and (one.startswith(text) or one.endswith(text))
        ]
        if len(fitting) == 1:
            return fitting[0]
        problem = f"{len(fitting)} chats have ids like" if fitting else "There is no chat with the id"
        raise StoreError(f"{problem} {text!r}.")

    def usage(self) -> builtins.list[Usage]:
        """What was computed, by month and model. Raises StoreError."""
        return self.database.read(usage_by_month)

    def search(
        self, chats: Sequence[ChatSummary], query: str, cancelled: Callable[[], bool] = lambda: False
    ) -> builtins.list[Hit]:
        """Those of `chats` that hold every word of the query, best first. Raises StoreError."""
        from chat_app.store.search import search_chats

        return search_chats(self.database, chats, query, cancelled)

    def delete(self, *chat_ids: str) -> None:
        """Put chats into the trash, where they stay for 30 days or longer; to write to one takes it out.
        Raises StoreError, none of them deleted then."""

        def change(connection: sqlite3.Connection) -> None:
            for one in chat_ids:
                _require(put_into_trash(connection, one), one)

        self.database.write(change, "Nothing is deleted")
        for one in chat_ids:
            self._remove_kv_files(one)

    def restore(self, *chat_ids: str) -> None:
        """Take chats out of the trash. Raises StoreError, none of them restored then."""

        def change(connection: sqlite3.Connection) -> None:
            for one in chat_ids:
                found = connection.execute("UPDATE chat SET deleted = NULL WHERE id = ?", (one,))
                _require(found.rowcount, one)

        self.database.write(change, "Nothing is restored")

    def rename(self, chat_id: str, title: str) -> None:
        """Give a chat that is not open another title. Raises StoreError."""
        text = pack_text(title)
        self._change(chat_id, "UPDATE chat SET title = ? WHERE id = ?", text, "The title is not saved")

    def pin(self, chat_id: str, pinned: bool = True) -> None:
        """Show a chat before all others, or no longer. Raises StoreError."""
        self._change(
            chat_id, "UPDATE chat SET pinned = ? WHERE id = ?", int(pinned), "The chat is not pinned"
        )

    def remove(self, chat_id: str) -> None:
        """Remove a chat for good; the caller has asked the user. Raises StoreError, the chat then whole."""
        self.database.write(lambda connection: remove_chat(connection, chat_id), "The chat is not removed")
        self._remove_kv_files(chat_id)

    def _remove_kv_files(self, chat_id: str) -> None:
        if self._kv_files is not None:
            remove_kv_files(self._kv_files, chat_id)

    def close(self) -> None:
        """Let go of the file. Never raises."""
        self.database.close()

    def _change(self, chat_id: str, statement: str, value: object, what: str) -> None:
        def change(connection: sqlite3.Connection) -> int:
            return connection.execute(statement, (value, chat_id)).rowcount

        _require(self.database.write(change, what), chat_id)


def _require(changed: int, chat_id: str) -> None:
    if changed == 0:
        raise StoreError(f"There is no chat with the id {chat_id!r}.")
