"""A reply that is in no chat yet: it grows beside others, until it is kept or forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from chat_app.chat.conversation import Message
from chat_app.chat.open_chat import OpenChat
from chat_app.chat.reply import GrowingReply
from chat_app.chat.reply_records import ScoredText
from chat_app.text.errors import describe_error
from llama_core.events import Event, TextDelta, TokenEvent


@dataclass(slots=True)
class Candidate:
    """`reply` takes its events on the engine's thread, while another looks. pieces: what was said since it
    was begun, thought and answer, each with how likely it was. error: why it ended, where it failed."""

    reply: GrowingReply
    pieces: list[ScoredText] = field(default_factory=list)
    error: str = ""
    _logprob: float = 0.0

    def take(self, told: Event | Exception) -> None:
        """Note an event, or why there will be no more."""
        if isinstance(told, Exception):
            self.error = describe_error(told)
            return
        self.reply.take(told)
        if isinstance(told, TokenEvent):
            self._logprob += told.logprob
        elif isinstance(told, TextDelta):
            self.pieces.append(ScoredText(told.text, self._logprob))
            self._logprob = 0.0

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
    """The candidate as a message of the chat, the tip, with what was seen of its tokens; not yet saved."""
    made = candidate.message
    added = chat.conversation.add("assistant", made.content, parent=made.parent, status=made.status, x=made.x)
    chat.records.keep(added.id, candidate.reply.record())
    return added
