"""Noticing that a reply repeats its own span again and again.

The index of prompt lookup tells where the last few tokens stood before. That distance is the span; as long as
each further token is the one a span before it, the loop goes on:

    ... the cat sat. the cat sat. the cat sat. the cat s
        └ once ────┘└ repeated: `matched` tokens ───────┘   rounds = matched / span + 1

A rule tells a loop from what was asked for. A long span says so after few rounds, a short one after many: a
ruler of dashes, a row of zeros, a hundred times "ha" are no loops yet.
"""

from __future__ import annotations

from llama_core.engine.drafting.prompt_lookup import RunIndex
from llama_core.events import LoopFound

RUN_LENGTH = 4
# A loop fills at least this many tokens, its first round included.
LEAST_TOKENS = 160
# Behind a new candidate it is looked this far back for where it began.
MOST_BACK = 512


class LoopWatch:
    """Watches one reply. rounds: how often a span stands there before it is called a loop; 0 is never."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._ids: list[int] = []
        self._index = RunIndex((RUN_LENGTH,))
        self._span_n = self._matched = 0
        self.found: LoopFound | None = None  # the first loop that the rule calls one

    def push(self, token_id: int) -> None:
        """Take the reply's next token. O(1), but for the first of a new candidate."""
        if self._rounds == 0 or self.found is not None:
            return
        ids, span_n = self._ids, self._span_n
        ids.append(token_id)
        if span_n and ids[-1 - span_n] == token_id:
            self._matched += 1
        else:
            self._begin_anew()
        if not self._span_n:
            return
        rounds = self._matched // self._span_n + 1
        if rounds >= self._rounds and rounds * self._span_n >= LEAST_TOKENS:
            self.found = LoopFound(len(ids) - self._matched, self._span_n, rounds)

    def _begin_anew(self) -> None:
        """Another candidate: the distance to where the last tokens stood before, if they did."""
        ids = self._ids
        self._index.add(ids)
        end = self._index.end(ids[-RUN_LENGTH:]) if len(ids) > RUN_LENGTH else None
        self._span_n = span_n = 0 if end is None else len(ids) - end
        self._matched = matched = 0
        if span_n:
            most = min(MOST_BACK, len(ids) - span_n)
            while matched < most and ids[-1 - matched] == ids[-1 - matched - span_n]:
                matched += 1
            self._matched = matched
