"""Other ways to a reply than sending: regenerate, edit, continue, and moving between branches.

Every one adds to the tree; none takes anything away. The engine reuses the part of its cache that the new
branch shares with the old one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from chat_app.chat import prompting
from chat_app.chat.conversation import Status
from chat_app.chat.prompting import Prepared

if TYPE_CHECKING:
    from chat_app.chat.session import ChatSession
    from llama_core.engine.text import TextEngine


class Branches:
    """The part of a session that moves about in the tree."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session

    async def regenerate(self, message_id: str) -> None:
        """Draw another reply beside the one named (or to the question named)."""
        message = self._session.conversation.get(message_id)
        question = message.parent if message.role == "assistant" else message_id
        if question is None or not self._may_begin():
            return
        prepared = await self._session.prepare(
            self._session.conversation.to_messages(self._session.settings.system, question)
        )
        if prepared is None:
            return
        sibling = self._session.conversation.regenerate(message_id)
        self._session.view.show_chat()
        self._session.start(sibling, prepared)

    async def edit(self, message_id: str, text: str) -> None:
        """Ask a question in other words: a sibling with its own reply; the old branch stays."""
        if not self._may_begin():
            return
        original = self._session.conversation.get(message_id)
        before = (
            self._session.conversation.to_messages(self._session.settings.system, original.parent)
            if original.parent
            else []
        )
        if not original.parent and self._session.settings.system:
            before = [{"role": "system", "content": self._session.settings.system}]
        if original.role == "assistant":
            edited = self._session.conversation.edit(message_id, text)
            await self._session.saver.append(edited)
            self._session.view.show_chat()
            return
        prepared = await self._session.prepare(prompting.with_user_turn(before, text))
        if prepared is None:
            self._session.view.give_back(text)
            return
        edited = self._session.conversation.edit(message_id, text)
        await self._session.saver.append(edited)
        self._session.view.show_chat()
        self._session.start(self._session.conversation.add("assistant", "", status="partial"), prepared)

    async def continue_reply(self, message_id: str) -> None:
        """Go on with a reply that was stopped or ran into a limit."""
        message = self._session.conversation.get(message_id)
        if message.role != "assistant" or not self._may_begin():
            return
        self._session.conversation.select(message_id)
        turns = self._session.conversation.to_messages(self._session.settings.system)
        if not message.content or message.status == "failed":
            await self.regenerate(message_id)
            return
        prepared = await self._session.prepare(turns, continue_last=True)
        if prepared is not None:
            self._session.view.show_chat()
            self._session.start(
                replace(message, status="partial"), prepared, start_ids=message.x.get("ids", ())
            )

    async def reply_tokens(self, message_id: str, ids: list[int]) -> tuple[list[int], list[str]]:
        """(the ids of the prompt that a reply answered, the text of each of its tokens)."""
        session = self._session
        parent = session.conversation.get(message_id).parent
        turns = session.conversation.to_messages(session.settings.system, parent) if parent else []

        def question(engine: TextEngine) -> tuple[list[int], list[str]]:
            return engine.encode_chat(turns), [engine.tokenizer.token_text(one) for one in ids]

        return await asyncio.wrap_future(session.bridge.ask(question))

    async def take_alternative(
        self, message_id: str, prompt_ids: list[int], before: list[int], token_id: int
    ) -> None:
        """A sibling that begins as the reply did, takes another token, and goes on from there."""
        session = self._session
        if not self._may_begin():
            return
        ids = [*before, token_id]
        text, ends = await asyncio.wrap_future(
            session.bridge.ask(
                lambda engine: (engine.tokenizer.decode(ids), token_id in engine.tokenizer.stop_ids)
            )
        )
        parent = session.conversation.get(message_id).parent
        status: Status = "complete" if ends else "partial"
        sibling = session.conversation.add("assistant", text, parent=parent, status=status)
        session.view.show_chat()
        if ends:
            await session.saver.append(sibling)
        else:
            prepared = Prepared([], [*prompt_ids, *ids], None)
            session.start(sibling, prepared, start_ids=ids)

    def branch(self, message_id: str) -> None:
        """Go back to a message: what is sent next starts a new branch there."""
        if self._may_begin():
            self._session.conversation.select(message_id)
            self._session.view.show_chat()
            if self._session.conversation.children(message_id):
                self._session.view.note(
                    "The later messages are hidden; what you send now starts a new branch. "
                    "→ on the message shows what followed."
                )

    def switch_branch(self, message_id: str, step: int) -> str | None:
        """Show the sibling `step` places on; its id, or None where there is none.

        Forward from a tip that has replies leads down to the one last seen.
        """
        conversation = self._session.conversation
        if step > 0 and message_id == conversation.tip and conversation.children(message_id):
            return self._show_followers(message_id)
        siblings = self._session.conversation.siblings(message_id)
        places = [one.id for one in siblings]
        place = places.index(message_id) + step
        if not 0 <= place < len(places) or not self._may_begin():
            return None
        self._session.conversation.select_branch(places[place])
        self._session.view.show_chat()
        return places[place]

    def _show_followers(self, message_id: str) -> str | None:
        if not self._may_begin():
            return None
        conversation = self._session.conversation
        conversation.select_branch(message_id)
        self._session.view.show_chat()
        return next(one.id for one in conversation.path() if one.parent == message_id)

    def _may_begin(self) -> bool:
        if self._session.generating:
            self._session.view.note("A reply is being written; press Esc to stop it first.", "warning")
        return not self._session.generating
