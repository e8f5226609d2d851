"""The compiled model's KV cache: the layout is drawn in `attention.py`."""

from __future__ import annotations

from llama_core.config import ModelConfig
from llama_core.jit.buffers import Arena, address
from llama_core.jit.layout import BLOCK_POSITIONS
from llama_core.positions import Positions
from llama_core.system_memory import require_memory


def block_bytes(config: ModelConfig, q8: bool) -> int:
    """Bytes of the keys (or values) of 64 positions of one head in one layer."""
    numbers = BLOCK_POSITIONS * config.head_dim
    return numbers + 4 * BLOCK_POSITIONS if q8 else 4 * numbers


class JitCache(Positions):
    """Keys and values of up to `capacity` positions. Raises NotEnoughMemoryError before allocating.

    One run of blocks of 64 positions per layer and head, keys and values apart, in float32 or as int8 with
    scales. Pages are taken when first written.
    """

    def __init__(self, config: ModelConfig, capacity: int, *, q8: bool = False) -> None:
        super().__init__(capacity)
        blocks = -(-capacity // BLOCK_POSITIONS)
        # Bytes of the keys (or values) of one head in one layer.
        self.head_bytes = blocks * block_bytes(config, q8)
        self.q8 = q8
        half = config.n_layers * config.n_kv_heads * self.head_bytes
        require_memory(f"The KV cache of {capacity:,} tokens", 2 * half, "try a smaller context (num_ctx)")
        self._keys = Arena(half, huge=False)
        self._values = Arena(half, huge=False)
        self.keys_address = address(self._keys.bytes)
        self.values_address = address(self._values.bytes)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes
