"""From turns to a prompt that fits the context: prepared once by the engine, shortened if the user agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from chat_app.chat.view import ChatView, Room
from chat_app.engines.base import Prompt, PromptRequest
from chat_app.engines.host import EngineHost


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """What the user wants instead of a prompt without its oldest turns. ctx_size: the context for "raise".
    over_n: by how many tokens it is too long."""

    way: Room
    ctx_size: int = 0
    over_n: int = 0


class Prompter:
    """Prepares the prompts of one chat, and remembers what the user said about its length."""

    def __init__(self, host: EngineHost, view: ChatView) -> None:
        self._host = host
        self._view = view
        self._drop_oldest = False
        self._noted: set[str] = set()

    def forget(self) -> None:
        """Another chat: what was agreed to and said counts no more."""
        self._drop_oldest = False
        self._noted.clear()

    async def prepare(
        self, request: PromptRequest, larger: Callable[[int], int], files_n: int = 0
    ) -> Prompt | MakeRoom | None:
        """The prompt, or None where it does not fit and shall not be shortened, or the other way by which the
        user wants room made for it.

        larger: a context for so many tokens, 0 where there is none. files_n: how many attached files could be
        shortened. Raises as the engine does."""
        found: Prompt | MakeRoom | None = await self._ask(request)
        if isinstance(found, Prompt) and not found.fits:
            found = await self._shorten(found, request, larger(found.prompt_n + found.reply_n), files_n)
        if isinstance(found, Prompt):
            self._note_room(found, request)
        return found

    async def _ask(self, request: PromptRequest) -> Prompt:
        prompt = await asyncio.wrap_future(self._host.ask(lambda engine: engine.prepare(request)))
        for note in prompt.notes:
            if note not in self._noted:
                self._noted.add(note)
                self._view.note(note, "warning")
        return prompt

    async def _shorten(
        self, prompt: Prompt, request: PromptRequest, larger: int, files_n: int
    ) -> Prompt | MakeRoom | None:
        """The context is full: leave out the oldest turns if the user agrees, once for a chat."""
        if not (self._drop_oldest and prompt.drop):
            room = await self._view.ask_overflow(prompt, larger, files_n)
            if room != "drop":
                over_n = prompt.prompt_n + prompt.reply_n - prompt.limit
                return MakeRoom(room, larger, over_n) if room is not None else None
        if not prompt.drop:
            # Nothing can go: the reply gets what room there is.
            return prompt if prompt.prompt_n < prompt.limit else None
        self._drop_oldest = True
        shorter = await self._ask(request.without(prompt.drop))
        if not shorter.fits:
            self._view.note("The prompt is too long even without the earlier turns.", "error")
            return None
        dropped = len(prompt.drop)
        what = "oldest message was" if dropped == 1 else f"{dropped} oldest messages were"
        self._view.note(f"The context is full: the {what} left out.", "warning")
        return replace(shorter, shortened=True)

    def _note_room(self, prompt: Prompt, request: PromptRequest) -> None:
        """Say once for a chat that a reply cannot become as long as was asked for."""
        wanted, room = request.params.max_tokens, prompt.limit - prompt.prompt_n
        if wanted is not None and prompt.limit and room < wanted and "room" not in self._noted:
            self._noted.add("room")
            self._view.note(
                f"The context has room for a reply of {room:,} tokens, not for num_predict {wanted:,}.",
                "warning",
            )
