"""Several drafters, the cheapest first: the first that has a guess is taken."""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.engine.drafting.base import Drafter, Poll


class FirstOf:
    """Implements `base.Drafter` with others, in order. Plain passes are told to all, guesses to who made
    them."""

    def __init__(self, *drafters: Drafter) -> None:
        self._drafters = drafters
        self._took: Drafter | None = None

    @property
    def nbytes(self) -> int:
        """The sum of what all hold."""
        return sum(drafter.nbytes for drafter in self._drafters)

    def start(self, ids: Sequence[int]) -> None:
        """A reply begins after the prompt `ids`."""
        for drafter in self._drafters:
            drafter.start(ids)

    def propose(self, ids: Sequence[int], limit: int, cancelled: Poll | None = None) -> Sequence[int]:
        """The guesses of the first that has any."""
        for drafter in self._drafters:
            guesses = drafter.propose(ids, limit, cancelled)
            if guesses:
                self._took = drafter
                return guesses
        return ()

    def observe(self, drafted_n: int, accepted_n: int, pass_s: float) -> None:
        """Told to who made the guesses; a pass without any concerns everybody."""
        for drafter in self._drafters:
            if not drafted_n or drafter is self._took:
                drafter.observe(drafted_n, accepted_n, pass_s)

    def reset(self) -> None:
        """Forget every text."""
        for drafter in self._drafters:
            drafter.reset()

    def close(self) -> None:
        """Let everything go."""
        for drafter in self._drafters:
            drafter.close()
