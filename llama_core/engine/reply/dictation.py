"""Tokens of a reply that are not drawn: they come next, whatever the model says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.sampling.sampler import Sampled, Sampler

Dictate = Callable[[], Sequence[int]]


class Dictation:
    """Hands out one after the other. `ask` gives those that must come now, and is asked before each token
    while none is due; None: all are drawn."""

    def __init__(self, ask: Dictate | None) -> None:
        self._ask = ask
        self._due: deque[int] = deque()

    def next(self, row: NDArray[np.float32], sampler: Sampler) -> Sampled | None:
        """The next token, with its log-probability; None where it is to be drawn. row: (vocab_size,)."""
        if self._ask is not None and not self._due:
            self._due.extend(self._ask())
        if not self._due:
            return None
        token_id = self._due.popleft()
        return Sampled(token_id, float(row[token_id]) - sampler.log_normaliser(row))
