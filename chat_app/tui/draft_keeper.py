"""What is typed and not sent, on disk by chat, so that neither a crash nor a switch loses it."""

from __future__ import annotations

import asyncio

from chat_app.store.prompts import Drafts


class DraftKeeper:
    """Writes what has changed. Text that went with the user to another chat stays with that one alone."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self._on_disk: dict[str, str] = {}  # of what stands in the box, by chat
        self._loaded_for: object = None
        self._turn = asyncio.Lock()

    async def keep(self, name: str, text: str) -> None:
        """Called once a second. The disk does not hold up the screen."""
        async with self._turn:
            for one, words in self._changed(name, text):
                await asyncio.to_thread(self._drafts.save, one, words)

    def keep_now(self, name: str, text: str) -> None:
        """The same, waiting for the disk: the process ends."""
        for one, words in self._changed(name, text):
            self._drafts.save(one, words)

    def _changed(self, name: str, text: str) -> list[tuple[str, str]]:
        wanted = {name: text}
        if wanted == self._on_disk:
            return []
        left, self._on_disk = [one for one in self._on_disk if one not in wanted], wanted
        return [*wanted.items(), *((one, "") for one in left)]

    def draft_of(self, chat: object, name: str) -> str:
        """The draft of a chat that has come up; empty where it has none, or stands in the box already."""
        if self._loaded_for is chat:
            return ""
        self._loaded_for = chat
        if name in self._on_disk or not (draft := self._drafts.load(name)):
            return ""
        self._on_disk[name] = draft
        return draft
