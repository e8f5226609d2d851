"""What the engine asks of a grammar, whoever computes it."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

# (vocab_size,): the tokens that may come next. The ids that end a reply are among them where it may end.
Mask = NDArray[np.bool_]


class Constraint(Protocol):
    """How far one reply has come in its grammar. Belongs to one thread at a time."""

    @property
    def complete(self) -> bool:
        """Whether the reply is whole and nothing may follow but its end."""

    def allowed(self) -> Mask:
        """What may come next, the caller's own. Raises GrammarError where nothing may, or the grammar is too
        much to compute."""

    def take(self, token_id: int) -> None:
        """The reply goes on with this token, or ends. Raises GrammarError where it is not allowed."""

    def copy(self) -> Self:
        """The same place in the same grammar; the two then go on apart."""
