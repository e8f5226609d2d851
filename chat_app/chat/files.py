"""Where a chat is kept: in the store, or in memory alone (`--no-save`)."""

from __future__ import annotations

from chat_app.chat.saver import ChatFile, MemoryTranscript
from chat_app.store.chats import ChatStore
from chat_app.store.usage import Usage


class ChatFiles:
    """Opens and makes chats. With `save` False nothing is written, and stored chats are read all the same.

    `kind` is what new chats are: "chat", or "oneshot", which the history keeps apart.
    """

    def __init__(self, store: ChatStore | None, *, save: bool, kind: str = "chat") -> None:
        self._store = store
        self._kind = kind
        self._save = save and store is not None

    def new(self, model: str) -> ChatFile:
        """An empty chat; it is on disk with its first message."""
        if self._store is None or not self._save:
            return MemoryTranscript()
        return self._store.create(model=model, kind=self._kind)

    def open(self, chat_id: str) -> ChatFile:
        """A chat to go on with. Raises StoreError."""
        if self._store is None:
            raise LookupError("There are no stored chats here.")
        if self._save:
            return self._store.open(chat_id)
        chat = MemoryTranscript()
        chat.conversation.take_over(self._store.read(chat_id))
        return chat

    def kept_id(self, chat: ChatFile) -> str:
        """The id under which an engine may keep what it computes of a chat; "" where it may not. One-shot
        runs are rarely gone on with."""
        return chat.id if self._save and self._kind == "chat" else ""

    def usage(self) -> list[Usage]:
        """What was computed in all stored chats. Raises StoreError."""
        return self._store.usage() if self._store is not None else []
