"""Prompt lookup: guess that the reply goes on as the context did before.

Replies often repeat their context: code with one change, a quotation, a table's next row. Where the last few
tokens stood before, what followed them then is the guess (Saxena, "Prompt Lookup Decoding", 2023). The model
checks all guesses in one pass (speculative decoding, arXiv:2211.17192), which on a CPU costs little more than
one token, since both read every weight once. Every token is still drawn from the model's own logits, so
that the reply is the one that it would have been (`drafting.Drafter`).

    context   ... the quick brown fox jumps over the lazy dog ... so the quick brown
                  └── stood here ──┘└── guess: fox jumps over ...     └ last tokens ┘

Whether to guess, and how much, follows from what was measured so far:

    time of a pass over k guesses       t(k) = t(0) + k * c
    tokens that it is expected to give  1 + a + a^2 + ... + a^k     (a: how often a guess is right)

The k with the most tokens per second wins; if that is 0, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

# Runs of tokens looked up, longest first: a longer run that stood before is the better guess.
RUN_LENGTHS = (4, 3, 2)
MOST_GUESSES = 12
# A guess must promise this much more speed: measured times are noisy.
WORTHWHILE = 1.05
# Plain steps to be timed before the first guess.
PLAIN_STEPS = 3
# What a pass costs for each guess before one was timed, as a fraction of a plain step.
ASSUMED_COST = 0.2
# New measurements count this much against old ones.
FRESH = 0.15
# Counts of right and wrong guesses fade by this factor with each check, and more slowly with each chance that
# was left out, so that a context that turns repetitive is tried again after some dozens of tokens.
FADE, FADE_UNTRIED = 0.9, 0.99


class Acceptance:
    """How often guesses after a run of one length were right, recent ones counting most."""

    __slots__ = ("_right", "_wrong")

    def __init__(self) -> None:
        self._right = self._wrong = 0.0

    @property
    def rate(self) -> float:
        """Between 0 and 1; two in three while nothing is known."""
        return (self._right + 2.0) / (self._right + self._wrong + 3.0)

    def observe(self, drafted: int, accepted: int) -> None:
        """After the first wrong guess the others were not looked at."""
        self._right = FADE * self._right + accepted
        self._wrong = FADE * self._wrong + (accepted < drafted)

    def fade(self) -> None:
        """Forget a little, since nothing was guessed: later it is worth another try."""
        self._right *= FADE_UNTRIED
        self._wrong *= FADE_UNTRIED


class PromptLookup:
    """Implements `drafting.Drafter`. Its times carry over from reply to reply, its counts do not."""

    def __init__(self, run_lengths: Sequence[int] = RUN_LENGTHS, most: int = MOST_GUESSES) -> None:
        self._run_lengths = tuple(run_lengths)
        self._most = most
        self._plain_n = 0
        self._plain_s = 0.0
        self._guess_s: float | None = None
        self.start(())

    def start(self, ids: Sequence[int]) -> None:
        """A reply begins after the prompt `ids`."""
        # For each run of tokens, where the latest one ended.
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._acceptance = {n: Acceptance() for n in self._run_lengths}
        self._proposed_by: int | None = None
        self._index(ids)

    def propose(self, ids: Sequence[int], limit: int) -> list[int]:
        """At most `limit` guesses of what follows `ids`; none where they would not pay."""
        self._index(ids)
        self._proposed_by = None
        if self._plain_n < PLAIN_STEPS or limit < 1:
            return []
        for length in self._run_lengths:
            end = self._ends.get(tuple(ids[-length:])) if len(ids) > length else None
            if end is None:
                continue
            count = self._best_count(length, min(limit, self._most, len(ids) - end))
            if not count:
                self._acceptance[length].fade()
                continue
            self._proposed_by = length
            return list(ids[end : end + count])
        return []

    def observe(self, drafted_n: int, accepted_n: int, step_s: float) -> None:
        """A pass over one token and `drafted_n` guesses took `step_s`; the first `accepted_n` were right."""
        if drafted_n == 0:
            self._plain_n += 1
            # The first steps may be slow for reasons of their own; later ones are averaged.
            weight = max(FRESH, 1.0 / self._plain_n)
            self._plain_s += weight * (step_s - self._plain_s)
            return
        if self._proposed_by is not None:
            self._acceptance[self._proposed_by].observe(drafted_n, accepted_n)
        each = max(0.0, step_s - self._plain_s) / drafted_n
        known = ASSUMED_COST * self._plain_s if self._guess_s is None else self._guess_s
        self._guess_s = known + FRESH * (each - known)

    def _index(self, ids: Sequence[int]) -> None:
        """Remember the runs that end before the last token; that one's own run is what is looked up."""
        for end in range(self._indexed + 1, len(ids)):
            for length in self._run_lengths:
                if end >= length:
                    self._ends[tuple(ids[end - length : end])] = end
        self._indexed = max(self._indexed, len(ids) - 1)

    def _best_count(self, length: int, most: int) -> int:
        """The number of guesses with the most tokens per second, 0 where plain steps are as good."""
        rate = self._acceptance[length].rate
        cost = ASSUMED_COST * self._plain_s if self._guess_s is None else self._guess_s
        best, best_speed = 0, WORTHWHILE / self._plain_s if self._plain_s > 0 else 0.0
        tokens, chance = 1.0, 1.0
        for count in range(1, most + 1):
            chance *= rate
            tokens += chance
            speed = tokens / max(self._plain_s + count * cost, 1e-9)
            if speed > best_speed:
                best, best_speed = count, speed
        return best
