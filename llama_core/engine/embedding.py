"""A text as a vector: the mean of what the model makes of its tokens.

A model that writes is no embedding model: the vector places a text by what the model would say next, which
ranks related texts, and less well than a model trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Model
from llama_core.engine.context import without_warnings
from llama_core.errors import NumericalError


def mean_state(
    model: Model, cache: Cache, ids: Sequence[int], cancelled: Callable[[], bool] | None = None
) -> NDArray[np.float32]:
    """The mean over `ids` of the hidden states behind the last layer and its norm: (dim,) float32, summed in
    float64. `cache` is empty before, and holds `ids` afterwards. Raises NumericalError, Cancelled,
    ContextFullError."""
    total = np.zeros(model.config.dim, dtype=np.float64)
    for start in range(0, len(ids), model.prefill_chunk):
        chunk = np.asarray(ids[start : start + model.prefill_chunk], dtype=np.int32)
        with without_warnings():
            total += model.hidden_states(chunk, cache, cancelled=cancelled).sum(axis=0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise NumericalError("the model's hidden states contain NaN or infinity; the weights may be damaged")
    return (total / len(ids)).astype(np.float32)
