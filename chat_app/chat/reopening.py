"""A stored chat that is opened again: what it was held with, and what the engine has kept of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from chat_app.chat.open_chat import OpenChat
from chat_app.chat.recall import recall
from chat_app.engines.base import PromptRequest, Restored
from chat_app.text.formatting import duration

_log = logging.getLogger(__name__)


class Reopening:
    """Brings back what belongs to the chat that is open. `spawn` runs a coroutine beside the caller."""

    def __init__(self, chat: OpenChat, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        self._chat = chat
        self._spawn = spawn

    def recall(self, chosen: Collection[str]) -> None:
        """Its settings become the session's, but for what was `chosen` (see `recall`), and its model is
        loaded."""
        chat, before = self._chat, self._chat.settings
        chat.settings = recall(chat.conversation, before, chosen)
        for notice in chat.settings.notices[len(before.notices) :]:
            chat.view.note(notice, "warning")
        if chat.settings.model == before.model:
            return
        path, loaded = Path(chat.settings.model), chat.model.info
        if path != chat.model.loading and (loaded is None or path != loaded.path):
            chat.view.note(f"This chat was held with {path.name}, which is loaded for it.")
            chat.load_model(path)

    def restore(self, request: PromptRequest) -> None:
        """Have the engine, if it is ready and does so, take what is kept of this chat from the disk, before
        the next prompt. `request`: the chat so far."""
        info = self._chat.model.info
        if info is not None and info.capabilities.restores and request.chat_id and request.turns:
            self._spawn(self._restore(request))

    async def _restore(self, request: PromptRequest) -> None:
        chat = self._chat
        try:
            restored: Restored | None = await chat.ask(lambda engine: engine.restore(request))
        except Exception as error:  # noqa: BLE001 - the next prompt is computed whole then, and tells what fails
            _log.info("a chat was not restored", exc_info=error)
            return
        if restored is not None:
            saved = f", saved {duration(restored.saved_s)}" if restored.saved_s else ""
            chat.view.note(f"Restored {restored.n:,} tokens{saved}.")
