"""What the engine asks of a guesser of coming tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Poll = Callable[[], bool]


class Drafter(Protocol):
    """Guesses tokens that the model then checks in one pass.

    The engine draws every token from the model's own logits and keeps a guess only when it is that very
    token, so that a drafter changes the speed of a reply and never its words.
    """

    def start(self, ids: Sequence[int]) -> None:
        """A reply begins after the prompt `ids`."""

    def propose(self, ids: Sequence[int], limit: int, cancelled: Poll | None = None) -> Sequence[int]:
        """At most `limit` guesses of what follows `ids` (prompt and reply so far); may be none. Raises
        Cancelled where `cancelled`, asked while it computes, is true."""

    def observe(self, drafted_n: int, accepted_n: int, pass_s: float) -> None:
        """The model's pass over one token and `drafted_n` guesses took `pass_s` seconds, without the time in
        which they were guessed; the first `accepted_n` were right."""

    def reset(self) -> None:
        """Forget every text; what was measured stays."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds beside the model: 0 for one that computes nothing."""

    def close(self) -> None:
        """Let everything go. May be called twice."""
