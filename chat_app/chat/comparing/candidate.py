"""A reply that is in no chat yet: it grows beside others, until it is kept or forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chat_app.chat.conversation import Message
from chat_app.chat.inspection import TokenLook
from chat_app.chat.open_chat import OpenChat
from chat_app.chat.reply import GrowingReply
from chat_app.text.errors import describe_error
from llama_core.events import UNKNOWN_ID, Event, TextDelta, TokenEvent


class Said(NamedTuple):
    """A piece of a reply: its text, how likely its tokens were together (natural logarithm, NaN where that is
    not known), the first of them, and whether it is part of a thought."""

    text: str
    logprob: float
    token: TokenEvent | None
    thought: bool = False

    def share_of(self, other: Said) -> float | None:
        """How probable the model that said this held what the `other` said in its place; None where it did
        not tell. Their ids must be of one tokenizer."""
        if self.token is None or other.token is None:
            return None
        if other.token.id != UNKNOWN_ID:
            known = dict(self.token.top)
            return math.exp(known[other.token.id]) if other.token.id in known else None
        told = self.token.spelled.top if self.token.spelled is not None else ()
        return next((math.exp(logprob) for text, _, logprob in told if text == other.text), None)


@dataclass(slots=True)
class Candidate:
    """`reply` takes its events on the engine's thread, while another looks. said: what came since it was
    begun, before: what an engine elsewhere told of its beginning. error: why it ended, where it failed."""

    reply: GrowingReply
    said: list[Said] = field(default_factory=list)
    error: str = ""
    before: Sequence[TokenLook] = ()
    _logprob: float = 0.0
    _first: TokenEvent | None = None

    def take(self, told: Event | Exception) -> None:
        """Note an event, or why there will be no more."""
        if isinstance(told, Exception):
            self.error = describe_error(told)
            return
        self.reply.take(told)
        if isinstance(told, TokenEvent):
            self._logprob += told.logprob
            self._first = self._first or told
        elif isinstance(told, TextDelta):
            self.said.append(Said(told.text, self._logprob, self._first, told.thought))
            self._logprob, self._first = 0.0, None

    @property
    def answer(self) -> list[Said]:
        """What was said without the thought."""
        return [one for one in self.said if not one.thought]

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self.reply.finished is not None or bool(self.error)

    @property
    def message(self) -> Message:
        """As it would stand in the chat now: what has not ended was stopped."""
        reply = self.reply
        if reply.finished is not None:
            return reply.ended()
        return reply.failed(self.error) if self.error else reply.stopped()


def add_to(chat: OpenChat, candidate: Candidate) -> Message:
    """The candidate as a message of the chat, the tip, with what was told of its tokens; not yet saved."""
    made = candidate.message
    added = chat.conversation.add("assistant", made.content, parent=made.parent, status=made.status, x=made.x)
    chat.looks.add(added.id, candidate.reply, candidate.before)
    return added
