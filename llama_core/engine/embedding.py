"""A text as a vector: the mean of what the model makes of its tokens.

A model that writes is no embedding model: the vector places a text by what the model would say next, which
ranks related texts, and less well than a model trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Model
from llama_core.engine.context import without_warnings
from llama_core.errors import ContextFullError, LlamaCoreError, NumericalError


class MeanState:
    """The mean over `ids` of the hidden states behind the last layer and its norm, a few tokens at a time, in
    a cache of its own. Raises ContextFullError, NotEnoughMemoryError; LlamaCoreError for no ids, or ids that
    are no tokens."""

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        config = model.config
        if not ids or min(ids) < 0 or max(ids) >= config.vocab_size:
            raise LlamaCoreError(f"a text needs one token or more, of ids 0 to {config.vocab_size - 1}")
        if len(ids) > config.max_seq_len:
            raise ContextFullError(len(ids), config.max_seq_len)
        self._model = model
        self._ids = np.asarray(ids, dtype=np.int32)
        self._cache = model.new_cache(len(ids))
        self._total = np.zeros(config.dim, dtype=np.float64)

    def advance(self, n: int, cancelled: Callable[[], bool] | None = None) -> bool:
        """Compute at most `n` more tokens; whether all are. Raises NumericalError, Cancelled."""
        start = self._cache.length
        part = self._ids[start : start + min(n, self._model.prefill_chunk)]
        with without_warnings():
            states = self._model.hidden_states(part, self._cache, cancelled=cancelled)
            self._total += states.sum(axis=0, dtype=np.float64)
        if not np.isfinite(self._total).all():
            raise NumericalError("the model's hidden states contain NaN or infinity")
        return self._cache.length == len(self._ids)

    def mean(self) -> NDArray[np.float32]:
        """(dim,) float32, of what was computed."""
        return (self._total / max(1, self._cache.length)).astype(np.float32)
