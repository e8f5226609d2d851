"""Another reply by another model: the chat goes on with that one, or goes back to its own behind the reply.

One model is in memory at a time: the chat's own makes room for the other, and is loaded again where it is to
come back. The chat's settings name it all the while, so that whatever happens meanwhile is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from chat_app.chat.open_chat import Attempt, OpenChat
from chat_app.chat.reply import THIS_REPLY
from chat_app.config.endpoints import model_label
from chat_app.engines.base import Source
from chat_app.engines.sources import source_here
from chat_app.text.sanitize import clean_line


@dataclass(frozen=True, slots=True)
class Wanted:
    """Another reply in the place of `message_id`, by the model `name` from `source`; `own` is loaded before
    it. once: and after it."""

    message_id: str
    name: str
    source: Source
    own: Source
    once: bool


class Retry:
    """Of an open chat. `regenerate` begins another reply, given the engine, the message in whose place it is,
    and what is other about its model, if the chat does not go on with that."""

    def __init__(self, chat: OpenChat, regenerate: Callable[[Attempt, str, str], object]) -> None:
        self._chat = chat
        self._regenerate = regenerate
        self._wanted: Wanted | None = None

    async def by(self, message_id: str, name: str, *, once: bool) -> None:
        """Another reply by the model `name`. Raises ValueError with a sentence where it is not here, or the
        chat is busy."""
        chat = self._chat
        source = await asyncio.to_thread(source_here, name, chat.settings.engines)
        own = chat.model.source
        if chat.generating or chat.model.info is None or own is None:
            raise ValueError("The model is busy or not loaded; ask again when it is ready.")
        if source == own:
            raise ValueError(f"{clean_line(chat.model.info.name)} is the chat's model; /regen asks it again.")
        self._wanted = Wanted(message_id, name, source, own, once)
        chat.load_model(source)

    def ready(self) -> None:
        """A model is loaded: begin the reply where it is the one that is waited for."""
        chat, wanted = self._chat, self._wanted
        self._wanted = None
        if wanted is None or chat.model.source != wanted.source:
            return
        if wanted.once:
            chat.model.go_back_to(wanted.own)
        else:
            chat.settings = replace(chat.settings, model=wanted.name)
            chat.view.note(
                f"The chat goes on with {clean_line(model_label(wanted.name))}; /model chooses another."
            )
        if wanted.message_id in chat.conversation:
            attempt = chat.begin()
            if attempt is not None:
                self._regenerate(attempt, wanted.message_id, THIS_REPLY if wanted.once else "")

    def failed(self) -> Source | None:
        """No model could be loaded: the chat's own, which comes back where another was to answer for it."""
        wanted, self._wanted = self._wanted, None
        return None if wanted is None else wanted.own
