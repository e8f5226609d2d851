"""How likely each token of a reply was when it was drawn, as the reply's record keeps it: for tint and walk.

The numbers are of the model that wrote the reply, and stay so whichever is loaded when they are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, NamedTuple

from chat_app.chat.conversation import Message

NOWHERE = -1
# A ten-thousandth of a probability is more than anyone sees, and a third of the room of a whole float.
DECIMALS = 4
LOGPROBS, CHARS = "logprobs", "chars"
DETAILS: Final = (LOGPROBS, CHARS)


class ScoredText(NamedTuple):
    """A piece of an answer and how likely its tokens were: natural logarithm, NaN where unknown. at: the
    place of the first of them among the reply's tokens, NOWHERE where that is not known."""

    text: str
    logprob: float
    at: int = NOWHERE


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Of each token of a reply. logprobs: natural, under the model's own distribution, NaN where unknown.
    chars: how many characters of the answer came with it, 0 for a token of the thought. lead: so many
    characters stand before the first token that is known."""

    logprobs: tuple[float, ...] = ()
    chars: tuple[int, ...] = ()
    lead: int = 0

    @classmethod
    def of(cls, message: Message) -> TokenScores:
        """What the record of `message` holds; where it holds nothing, or what does not fit its text, all of
        the text is lead."""
        logprobs, chars = message.x.get(LOGPROBS), message.x.get(CHARS)
        lead = len(message.content)
        if not (isinstance(logprobs, list) and isinstance(chars, list) and len(logprobs) == len(chars)):
            return cls(lead=lead)
        if sum(chars) > lead:
            return cls(lead=lead)
        known = tuple(math.nan if one is None else float(one) for one in logprobs)
        return cls(known, tuple(chars), lead - sum(chars))

    def __len__(self) -> int:
        """How many tokens are known."""
        return len(self.logprobs)

    def then(self, logprobs: Iterable[float], chars: Iterable[int]) -> TokenScores:
        """These, and those of the tokens that follow."""
        return TokenScores((*self.logprobs, *logprobs), (*self.chars, *chars), self.lead)

    def begun(self, content: str, same_n: int, n: int) -> TokenScores:
        """Those of a reply's beginning: `n` tokens that say `content`, of which the first `same_n` are the
        first of these. Of the others nothing is known but what they say together."""
        same_n = min(same_n, n, len(self))
        lead = self.lead if same_n else 0  # else the text is that of the unknown tokens
        logprobs = (*self.logprobs[:same_n], *repeat(math.nan, n - same_n))
        chars = [*self.chars[:same_n], *repeat(0, n - same_n)]
        rest = len(content) - lead - sum(chars)
        if rest < 0:  # it says less than they did: no part of it can be told
            return TokenScores().begun(content, 0, n)
        if chars:
            chars[-1] += rest
        return TokenScores(logprobs, tuple(chars), lead if chars else len(content))

    def details(self) -> dict[str, list[Any]]:
        """The details of a message that `of` reads; none where there is no token."""
        if not self.logprobs:
            return {}
        # Sums in float32 can say more than certain.
        known = [min(0.0, round(one, DECIMALS)) if math.isfinite(one) else None for one in self.logprobs]
        return {LOGPROBS: known, CHARS: list(self.chars)}

    def pieces(self, content: str, thought_n: int) -> tuple[ScoredText, ...]:
        """The answer, `content`, in pieces; the first `thought_n` tokens are of the thought. Where a
        character took several tokens, they count together."""
        found = [ScoredText(content[: self.lead], math.nan)] if self.lead else []
        begin, whole, first = self.lead, 0.0, 0
        for index, (logprob, n) in enumerate(zip(self.logprobs, self.chars, strict=True)):
            whole += logprob
            if n:
                known = index == first or not math.isnan(whole)
                found.append(ScoredText(content[begin : begin + n], whole, first if known else NOWHERE))
            if n or index < thought_n:
                begin, whole, first = begin + n, 0.0, index + 1
        return tuple(found)


def scored_text(message: Message) -> tuple[ScoredText, ...]:
    """A reply's answer in pieces by how likely they were; empty where nothing is known of it."""
    scores, thought_n = TokenScores.of(message), message.x.get("thought_n")
    if all(map(math.isnan, scores.logprobs)):
        return ()
    return scores.pieces(message.content, thought_n if isinstance(thought_n, int) else 0)


def without_scores(x: Mapping[str, Any]) -> dict[str, Any]:
    """Details of a message without these."""
    return {name: value for name, value in x.items() if name not in DETAILS}
