"""The keys and values of the positions computed so far, in buffers made once.

    keys, values: (n_layers, n_kv_heads, positions, head_dim) float32

                    position 0     1     2    ...   length    ...   capacity
      layer 0, head 0 [ k.... ][ k.... ][ k.... ] ... | not yet written  |
               head 1 [ k.... ][ k.... ][ k.... ] ... |                  |

A head's keys lie next to each other, so that attention is one product per head over an unbroken run of
memory. Positions are appended behind `length` and become valid when `length` moves over them, at the end of
a pass: a pass that fails or is cancelled half way leaves a cache in which nothing has happened.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.positions import Positions
from llama_core.config import ModelConfig
from llama_core.memory import require_memory, small_page_memory

# Attention multiplies keys in runs of this many positions (see attention.py), so that the buffers end on one.
BLOCK = 64


class KVCache(Positions):
    """Room for `capacity` positions. Raises NotEnoughMemoryError before allocating what would not fit."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        super().__init__(capacity)
        positions = -(-capacity // BLOCK) * BLOCK + (BLOCK if config.sliding_window else 0)
        shape = (config.n_layers, config.n_kv_heads, positions, config.head_dim)
        needed = 2 * 4 * config.n_layers * config.kv_dim * positions
        require_memory(f"The KV cache of {capacity:,} tokens", needed, "try a smaller context (num_ctx)")
        self.keys, self.values = zeros(shape), zeros(shape)

    def copy_prefix(self, source: KVCache, length: int) -> None:
        """Hold the first `length` positions of `source`, and nothing else. Raises as `take_length`."""
        self.take_length(source, length)
        self.keys[:, :, :length] = source.keys[:, :, :length]
        self.values[:, :, :length] = source.values[:, :, :length]

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return self.keys.nbytes + self.values.nbytes


def zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros (the columns that attention computes beyond `length` before it ignores them must be numbers)
    whose pages are taken when they are first written."""
    return np.frombuffer(small_page_memory(4 * math.prod(shape)), dtype=np.float32).reshape(shape)
