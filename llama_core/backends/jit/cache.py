"""The compiled model's KV cache: the layout of a block is drawn in `attention.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.layout import BLOCK_POSITIONS, KvKind, ceil_div
from llama_core.backends.positions import Positions
from llama_core.config import ModelConfig
from llama_core.memory import require_memory, small_page_memory


class JitCache(Positions):
    """Keys and values of up to `capacity` positions. Raises NotEnoughMemoryError before allocating.

    Keys of the layers that have attention, and the same again for values:

        | layer 0, head 0: its blocks of positions | layer 0, head 1: its blocks | ... | layer 1 ...
        | block 0 | block 1 | ... | block n-1         |

    So decoding reads a head as one stream, and the pages behind the positions in use are not taken.
    """

    def __init__(self, config: ModelConfig, capacity: int, kind: KvKind) -> None:
        super().__init__(config, capacity)
        self.kind = kind
        # Bytes of the keys (or values) of one head in one layer.
        self.block_bytes = kind.block_bytes(config.head_dim)
        self.head_bytes = ceil_div(capacity, BLOCK_POSITIONS) * self.block_bytes
        half = len(self.description.attentions()) * config.n_kv_heads * self.head_bytes
        needed = 2 * half + self.states.nbytes
        require_memory(f"The KV cache of {capacity:,} tokens", needed, "try a smaller context (num_ctx)")
        self._keys, self._values = (_bytes(half) for _ in ("keys", "values"))
        self.keys_address, self.values_address = address(self._keys), address(self._values)

    def copy_prefix(self, source: JitCache, length: int) -> None:
        """Hold the first `length` positions of `source`, or as many as it can reach, and nothing else. Raises
        as `take_length`, and ValueError where `source` keeps its numbers another way."""
        if source.kind is not self.kind:
            raise ValueError(f"a cache in {self.kind.name} cannot take positions in {source.kind.name}")
        self.take_length(source, length)
        n_bytes = ceil_div(self.length, BLOCK_POSITIONS) * self.block_bytes  # of each head: whole blocks
        for ours, theirs in ((self._keys, source._keys), (self._values, source._values)):
            ours.reshape(-1, self.head_bytes)[:, :n_bytes] = theirs.reshape(-1, source.head_bytes)[
                :, :n_bytes
            ]

    @property
    def block_positions(self) -> int:
        """Positions of a block."""
        return BLOCK_POSITIONS

    def pieces(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        """The blocks of positions start..stop: keys of each head of each layer, then values."""
        first, end = (
            start // BLOCK_POSITIONS * self.block_bytes,
            ceil_div(stop, BLOCK_POSITIONS) * self.block_bytes,
        )
        return [
            head[first:end]
            for numbers in (self._keys, self._values)
            for head in numbers.reshape(-1, self.head_bytes)
        ]

    @property
    def nbytes(self) -> int:
        """Memory of all blocks, filled or not, and of the snapshots."""
        return self._keys.nbytes + self._values.nbytes + self.states.nbytes


def _bytes(n: int) -> NDArray[np.uint8]:
    """Zeros whose pages are taken when they are first written."""
    return np.frombuffer(small_page_memory(n), np.uint8) if n else np.empty(0, np.uint8)
