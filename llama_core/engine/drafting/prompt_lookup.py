"""Prompt lookup: guess that the reply goes on as the context did before.

Replies often repeat their context: code with one change, a quotation, a table's next row. Where the last few
tokens stood before, what followed them then is the guess (Saxena, "Prompt Lookup Decoding", 2023). The model
checks all guesses in one pass (speculative decoding, arXiv:2211.17192), which on a CPU costs little more than
one token, since both read every weight once. Every token is still drawn from the model's own logits, so
that the reply is the one that it would have been (`base.Drafter`).

    context   ... the quick brown fox jumps over the lazy dog ... so the quick brown
                  └── stood here ──┘└── guess: fox jumps over ...     └ last tokens ┘
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.engine.drafting.base import Poll
from llama_core.engine.drafting.payoff import Acceptance, PassTimes, best_count

# Runs of tokens looked up, longest first: a longer run that stood before is the better guess.
RUN_LENGTHS = (4, 3, 2)
MOST_GUESSES = 12


class RunIndex:
    """Where runs of tokens stood before, by what they consist of."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = tuple(lengths)
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def add(self, ids: Sequence[int]) -> None:
        """Take in the runs that end before the last of `ids`, which only grow; that one's is looked up."""
        for end in range(self._indexed + 1, len(ids)):
            for length in self._lengths:
                if end >= length:
                    self._ends[tuple(ids[end - length : end])] = end
        self._indexed = max(self._indexed, len(ids) - 1)

    def end(self, run: Sequence[int]) -> int | None:
        """Where the latest such run ended; None where there was none."""
        return self._ends.get(tuple(run))


class PromptLookup:
    """Implements `base.Drafter`. Its times carry over from reply to reply, its counts do not."""

    nbytes = 0

    def __init__(self, run_lengths: Sequence[int] = RUN_LENGTHS, most: int = MOST_GUESSES) -> None:
        self._run_lengths = tuple(run_lengths)
        self._most = most
        self._times = PassTimes()
        self.start(())

    def start(self, ids: Sequence[int]) -> None:
        """A reply begins after the prompt `ids`."""
        self._index = RunIndex(self._run_lengths)
        self._acceptance = {n: Acceptance() for n in self._run_lengths}
        self._proposed_by: int | None = None
        self._index.add(ids)

    def propose(self, ids: Sequence[int], limit: int, cancelled: Poll | None = None) -> list[int]:
        """At most `limit` guesses of what follows `ids`; none where they would not pay. It takes no time in
        which anybody could cancel."""
        self._index.add(ids)
        self._proposed_by = None
        times = self._times
        if not times.known or limit < 1:
            return []
        for length in self._run_lengths:
            end = self._index.end(ids[-length:]) if len(ids) > length else None
            if end is None:
                continue
            acceptance = self._acceptance[length]
            most = min(limit, self._most, len(ids) - end)
            count = best_count(acceptance.rate, times.plain_s, times.guess_s, most)
            if not count:
                acceptance.fade()
                continue
            self._proposed_by = length
            return list(ids[end : end + count])
        return []

    def observe(self, drafted_n: int, accepted_n: int, pass_s: float) -> None:
        """A pass over one token and `drafted_n` guesses took `pass_s`; the first `accepted_n` were right."""
        if drafted_n and self._proposed_by is not None:
            self._acceptance[self._proposed_by].observe(drafted_n, accepted_n)
        self._times.observe(drafted_n, pass_s)

    def reset(self) -> None:
        """Forget what was looked up."""
        self.start(())

    def close(self) -> None:
        """Nothing is held."""
