"""The keys and values of the positions computed so far, in buffers made once.

    keys, values: (layers with attention, n_kv_heads, positions, head_dim) float32

                    position 0     1     2    ...   length    ...   capacity
      layer 0, head 0 [ k.... ][ k.... ][ k.... ] ... | not yet written  |
               head 1 [ k.... ][ k.... ][ k.... ] ... |                  |

A head's keys lie next to each other, so that attention is one product per head over an unbroken run of
memory. Positions are appended behind `length` and become valid when `length` moves over them, at the end of
a pass: a pass that fails or is cancelled half way leaves a cache in which nothing has happened.

Layers without attention have a state instead, see `backends/states.py`.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Attention
from llama_core.backends.positions import Positions
from llama_core.config import ModelConfig
from llama_core.memory import require_memory, small_page_memory

# Attention multiplies keys in runs of this many positions (see attention.py), so that the buffers end on one.
BLOCK = 64


class KVCache(Positions):
    """Room for `capacity` positions. Raises NotEnoughMemoryError before allocating what would not fit."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        super().__init__(config, capacity)
        attends = [i for i, layer in enumerate(self.description.layers) if isinstance(layer.mixer, Attention)]
        self._places = {i: place for place, i in enumerate(attends)}
        positions = -(-capacity // BLOCK) * BLOCK + (BLOCK if config.sliding_window else 0)
        shape = (len(attends), config.n_kv_heads, positions, config.head_dim)
        needed = 2 * 4 * math.prod(shape) + self.states.nbytes
        require_memory(f"The KV cache of {capacity:,} tokens", needed, "try a smaller context (num_ctx)")
        self.keys, self.values = zeros(shape), zeros(shape)

    def of_layer(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keys and values of layer i, which has attention, (n_kv_heads, positions, head_dim) each."""
        return self.keys[self._places[i]], self.values[self._places[i]]

    def copy_prefix(self, source: Self, length: int) -> None:
        """Hold the first `length` positions of `source`, or as many as it can reach, and nothing else. Raises
        as `take_length`."""
        self.take_length(source, length)
        n = self.length
        self.keys[:, :, :n] = source.keys[:, :, :n]
        self.values[:, :, :n] = source.values[:, :, :n]

    @property
    def block_positions(self) -> int:
        """Each position stands by itself."""
        return 1

    def pieces(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        """Positions start..stop: keys of each head of each layer, then values."""
        return [
            head[start:stop].reshape(-1).view(np.uint8)
            for numbers in (self.keys, self.values)
            for layer in numbers
            for head in layer
        ]

    @property
    def nbytes(self) -> int:
        """Bytes reserved, and those of the snapshots."""
        return self.keys.nbytes + self.values.nbytes + self.states.nbytes


def zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros (the columns that attention computes beyond `length` before it ignores them must be numbers)
    whose pages are taken when they are first written."""
    if 0 in shape:  # no layer has attention
        return np.zeros(shape, dtype=np.float32)
    return np.frombuffer(small_page_memory(4 * math.prod(shape)), dtype=np.float32).reshape(shape)
