"""Writing a chat without holding up the screen: in order, on another thread, and loud when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from chat_app.chat.conversation import Conversation, Message
from chat_app.store.database import StoreError


class ChatFile(Protocol):
    """What the session asks of a transcript; `MemoryTranscript` is one that forgets."""

    id: str
    warnings: list[str]

    @property
    def conversation(self) -> Conversation:
        """The tree of the chat; not to be kept, it may be replaced."""

    @property
    def unsaved(self) -> list[Message]:
        """The messages that are not on disk, oldest first."""

    def append(self, message: Message) -> None:
        """Put a message on disk, or another state of one. Raises StoreError; it is then unsaved."""

    def checkpoint(self, message: Message) -> None:
        """Put a reply that still grows on disk. Raises StoreError."""

    def retry(self) -> None:
        """Write what is unsaved. Raises StoreError."""

    def set_title(self, title: str) -> None:
        """Give the chat a title. Raises StoreError."""

    def remember(self, model: str) -> None:
        """Note which model the chat is held with now; it is saved with the next message."""

    def close(self) -> None:
        """Let go of the chat; others may open it."""


class MemoryTranscript:
    """A chat that is never written (`--no-save`)."""

    def __init__(self) -> None:
        self.id = ""
        self.warnings: list[str] = []
        self.conversation = Conversation()

    @property
    def unsaved(self) -> list[Message]:
        """Nothing: what is never written is not missed."""
        return []

    def append(self, message: Message) -> None:
        """Keep the message, or its new state, in the tree only."""
        if message.id in self.conversation:
            self.conversation.update(message)
        else:
            self.conversation.insert(message)

    checkpoint = append

    def retry(self) -> None:
        """There is nothing to write."""
        return

    def set_title(self, title: str) -> None:
        """The title lasts as long as the chat."""
        self.conversation.title = title

    def remember(self, model: str) -> None:
        """Nothing lists this chat, so nobody asks for its model."""
        return

    def close(self) -> None:
        """There is nothing to let go of."""
        return


class Saver:
    """One chat's way to disk. `on_trouble` gets a sentence when a write fails, or the file was damaged and is
    rebuilt, and None when all is well."""

    def __init__(self, chat: ChatFile, on_trouble: Callable[[str | None], None]) -> None:
        self.chat = chat
        self._on_trouble = on_trouble
        self._turn = asyncio.Lock()
        self._trouble: str | None = None
        self._told = len(chat.warnings)  # those of its opening: the session tells them

    async def append(self, message: Message) -> bool:
        """Put a message on disk; True once it is safe there. A failure is reported, never raised: the
        transcript keeps the message and writes it before the next one."""
        return await self._run(lambda: self.chat.append(message))

    async def remember(self, model: str) -> None:
        """Note which model the chat is held with now; it is saved with the next message."""
        async with self._turn:  # the chat is not being written, so this does not wait for the disk
            self.chat.remember(model)

    async def checkpoint(self, message: Message) -> bool:
        """Put a reply that still grows on disk; True once that is done."""
        return await self._run(lambda: self.chat.checkpoint(message))

    async def retry(self) -> bool:
        """Write what could not be written; True once all is safe."""
        return await self._run(self.chat.retry)

    async def set_title(self, title: str) -> bool:
        """Give the chat a title; True once it is on disk."""
        return await self._run(lambda: self.chat.set_title(title))

    async def close(self) -> bool:
        """Let go of the file, after what is being written."""
        return await self._run(self.chat.close)

    def save_now(self, message: Message) -> bool:
        """The same on this thread, for a process that is about to end."""
        try:
            self.chat.append(message)
        except StoreError:
            return False
        return True

    async def _run(self, write: Callable[[], None]) -> bool:
        async with self._turn:
            try:
                await asyncio.to_thread(write)
            except StoreError as error:
                self._trouble = str(error)
                self._on_trouble(self._trouble)
                return False
        # What befell the file meanwhile stays on the screen; the message itself is safe.
        standing = self.chat.warnings[-1] if len(self.chat.warnings) > self._told else None
        if self._trouble != standing:
            self._trouble = standing
            self._on_trouble(standing)
        return True
