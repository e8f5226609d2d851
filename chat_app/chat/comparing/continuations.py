"""Several ways in which a reply could go on from one of its tokens, drawn in one batch."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat_app.chat.branches import ReplyTokens, begun_details
from chat_app.chat.comparing.agreement import Fork, agreement
from chat_app.chat.comparing.candidate import Candidate, add_to
from chat_app.chat.comparing.hold import Hold
from chat_app.chat.conversation import Message
from chat_app.chat.open_chat import Attempt
from chat_app.chat.reply import GrowingReply, reply_details
from chat_app.engines.base import Engine, NotCapableError, Prompt, PromptRequest, ReplyParts, Turn
from chat_app.text.errors import describe_error
from llama_core.sampling.params import SamplingParams

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController

DRAWN_N = 8
MOST_TOKENS = 48


class Continuations:
    """Of the reply `message_id`, from its token `at` on. Nothing of them is in the chat unless one is kept.
    They hold the engine from `draw` to `keep` or `leave`."""

    def __init__(self, chat: ChatController, message_id: str, at: int) -> None:
        self._chat = chat
        self._hold = Hold(chat)
        self._reply: ReplyTokens | None = None
        self.message_id, self.at = message_id, at
        self.candidates: list[Candidate] = []
        self.note = ""  # what was done to the parameters
        self.error = ""
        self.ended = False

    @property
    def tree(self) -> Fork:
        """Where they agree, as far as they have come."""
        return agreement([[piece.text for piece in list(one.said)] for one in self.candidates])

    @property
    def tokens_n(self) -> int:
        """How far the longest has come."""
        return max((len(one.reply.tokens) for one in self.candidates), default=0)

    async def draw(self) -> None:
        """Draw them; `candidates` grow meanwhile. What keeps it from it is the `error`."""
        if not self._hold.take():
            self.error = "The model is busy or not loaded; tokens can be inspected afterwards."
            return
        try:
            self._reply = await self._chat.branches.reply_tokens(self.message_id)
            await self._chat.ask(self._run)
        except Exception as error:  # noqa: BLE001 - the engine's trouble is shown where the texts would be
            self.error = describe_error(error)
        finally:
            self._hold.stop()
            self.ended = True

    def _run(self, engine: Engine) -> None:
        """On the engine's thread."""
        reply, chat = self._reply, self._chat
        assert reply is not None, "draw() has it"
        asked = self._params(chat.settings.params)
        prompt = self._prompt(engine, reply, asked)
        parts = self._begun(engine, reply)
        ids = tuple(reply.ids[: self.at]) if not reply.looks else ()
        for _ in range(DRAWN_N):
            self.candidates.append(self._candidate(prompt, asked, parts, ids))
        most = MOST_TOKENS if asked.max_tokens is None else min(MOST_TOKENS, asked.max_tokens)
        drawn = [
            replace(asked, max_tokens=most, seed=None if asked.seed is None else asked.seed + place)
            for place in range(DRAWN_N)
        ]
        told = engine.stream_together([(prompt, one) for one in drawn], cancelled=self._hold.cancelled)
        for place, event in told:
            self.candidates[place].take(event)

    def _params(self, params: SamplingParams) -> SamplingParams:
        """Parameters with which eight can differ."""
        if params.temperature > 0:
            return params
        temperature = SamplingParams().temperature
        self.note = f"At temperature 0 all would be the same; these are drawn at {temperature:g}."
        return replace(params, temperature=temperature)

    def _prompt(self, engine: Engine, reply: ReplyTokens, params: SamplingParams) -> Prompt:
        """The prompt of the reply with what stands before the token."""
        if not reply.looks:
            ids = (*(reply.prompt.ids or ()), *reply.ids[: self.at])
            return replace(reply.prompt, ids=ids, begun_n=self.at)
        if not engine.info.capabilities.continues:
            raise NotCapableError(f"{engine.info.name} cannot go on from a token; /regen asks for another.")
        conversation = self._chat.conversation
        before = conversation.turns_before(conversation.get(self.message_id))
        turns = (*before, Turn("assistant", self._text(reply)))
        return engine.prepare(PromptRequest(turns, params, continue_last=True))

    def _text(self, reply: ReplyTokens) -> str:
        return b"".join(token.raw for token in reply.tokens[: self.at]).decode("utf-8", "replace")

    def _begun(self, engine: Engine, reply: ReplyTokens) -> ReplyParts:
        """What the reply says before the token."""
        if engine.tokens is None or reply.looks:
            return ReplyParts("", self._text(reply), 0)
        return engine.tokens.parts(reply.prompt, reply.ids[: self.at])

    def _candidate(
        self, prompt: Prompt, params: SamplingParams, parts: ReplyParts, ids: tuple[int, ...]
    ) -> Candidate:
        chat = self._chat
        model, before = chat.model, chat.conversation.get(self.message_id)
        details = reply_details(chat.settings, params, model.info, model.sha256, prompt, before.parent)
        x = details | {"ids": list(ids)} | begun_details(parts, before, self.at, self.at)
        message = Message("", before.parent, "assistant", parts.content, "", "partial", x)
        looks = chat.looks.of(self.message_id)
        return Candidate(GrowingReply(0, message, details, prompt=prompt), before=looks[: self.at])

    def leave(self) -> None:
        """Nothing is kept; the engine is free."""
        self._hold.leave()

    def keep(self, place: int) -> Coroutine[Any, Any, None]:
        """Make one the branch, which goes on where it was not whole."""
        return self._keep(self._hold.release(), self.candidates[place])

    async def _keep(self, attempt: Attempt | None, candidate: Candidate) -> None:
        if attempt is None or self._reply is None:
            return
        chat, reply = self._chat, candidate.reply
        whole = reply.finished is not None and reply.finished.reason not in ("length", "cancelled")
        limit = chat.settings.params.max_tokens
        whole = whole or bool(candidate.error) or (limit is not None and len(reply.tokens) >= limit)
        sibling = add_to(chat, candidate)
        chat.view.show_chat()
        if whole:
            await chat.saver.append(sibling)
            chat.finish_attempt(attempt)
            return
        sibling = replace(sibling, status="partial")
        if self._reply.looks:
            chat.conversation.update(sibling)
            await chat.branches.go_on_from_text(attempt, sibling)
            return
        ids = tuple(sibling.x["ids"])
        prompt = replace(self._reply.prompt, ids=(*(self._reply.prompt.ids or ()), *ids), begun_n=len(ids))
        chat.start(attempt, sibling, prompt)
