"""What was seen of each reply while it was written and no transcript holds: for tint and inspector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chat_app.chat.inspection import TokenLook, told_looks
from chat_app.chat.reply import GrowingReply, ScoredText

REPLIES_KEPT = 64


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """One reply's; empty where it was not written here. logprobs: of each token. scored: the same by the text
    that is shown. looks: at each token, of an engine elsewhere that tells them."""

    logprobs: Sequence[float] = ()
    scored: tuple[ScoredText, ...] = ()
    looks: tuple[TokenLook, ...] = ()


class ReplyRecords:
    """Those of the chat that is open, by the ids of its replies; the latest `REPLIES_KEPT` of them."""

    def __init__(self) -> None:
        self._records: dict[str, ReplyRecord] = {}

    def __len__(self) -> int:
        """How many replies have one."""
        return len(self._records)

    def of(self, message_id: str) -> ReplyRecord:
        """A reply's record."""
        return self._records.get(message_id, ReplyRecord())

    def keep(self, reply: GrowingReply) -> None:
        """The reply has ended; the oldest record makes room for its own."""
        self._records[reply.message.id] = ReplyRecord(
            reply.logprobs(), reply.scored(), told_looks(reply.tokens)
        )
        if len(self._records) > REPLIES_KEPT:
            del self._records[next(iter(self._records))]

    def forget(self) -> None:
        """Another chat is opened."""
        self._records.clear()
