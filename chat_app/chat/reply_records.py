"""What was seen of each reply while it was written and no transcript holds: for tint and inspector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chat_app.chat.inspection import TokenLook

REPLIES_KEPT = 64
NOWHERE = -1


class ScoredText(NamedTuple):
    """A piece of an answer and how likely its tokens were: natural logarithm, NaN where unknown. at: the
    place of the first of them among the reply's tokens, NOWHERE where that is not known."""

    text: str
    logprob: float
    at: int = NOWHERE


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """One reply's; empty where it was not written here. logprobs: of each token. scored: the same by the text
    that is shown. looks: at each token, of an engine elsewhere that tells them."""

    logprobs: Sequence[float] = ()
    scored: tuple[ScoredText, ...] = ()
    looks: tuple[TokenLook, ...] = ()

    def until(self, n: int) -> ReplyRecord:
        """That of the first `n` tokens alone."""
        return ReplyRecord(self.logprobs[:n], tuple(one for one in self.scored if one.at < n), self.looks[:n])

    def begun(self, text: str, n: int) -> tuple[list[float], list[ScoredText]]:
        """(of `n` tokens, by text), both known as far as this record has them: the beginning of a reply which
        says `text`."""
        known = list(self.logprobs[:n])
        pieces: list[ScoredText] = []
        length = 0
        for piece in self.scored:
            if not text.startswith(piece.text, length):
                break
            pieces.append(piece)
            length += len(piece.text)
        if text[length:]:
            at = len(known) if len(known) == n - 1 else NOWHERE
            pieces.append(ScoredText(text[length:], math.nan, at))
        return known + [math.nan] * (n - len(known)), pieces


UNSEEN = ReplyRecord()


class ReplyRecords:
    """Those of the chat that is open, by the ids of its replies; the latest `REPLIES_KEPT` of them."""

    def __init__(self) -> None:
        self._records: dict[str, ReplyRecord] = {}

    def __len__(self) -> int:
        """How many replies have one."""
        return len(self._records)

    def of(self, message_id: str) -> ReplyRecord:
        """A reply's record."""
        return self._records.get(message_id, UNSEEN)

    def keep(self, message_id: str, record: ReplyRecord) -> None:
        """The reply has ended; the oldest record makes room for its own."""
        self._records[message_id] = record
        if len(self._records) > REPLIES_KEPT:
            del self._records[next(iter(self._records))]

    def forget(self) -> None:
        """Another chat is opened."""
        self._records.clear()
