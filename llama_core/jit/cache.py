"""The compiled model's KV cache: the layout of a block is drawn in `attention.py`."""

from __future__ import annotations

from llama_core.config import ModelConfig
from llama_core.jit.buffers import HUGE_PAGE, Arena, address
from llama_core.jit.layout import BLOCK_POSITIONS, KvKind, ceil_div
from llama_core.positions import Positions
from llama_core.system_memory import require_memory


class JitCache(Positions):
    """Keys and values of up to `capacity` positions. Raises NotEnoughMemoryError before allocating.

    Keys, and the same again for values:

        | positions 0 .. 63 of every layer and head            | positions 64 .. 127 of every layer and head
        | layer 0: head 0's block | head 1's | ... | layer 1: ... |

    So what is in use lies together, in huge pages, and pages are only taken as the context grows.
    """

    def __init__(self, config: ModelConfig, capacity: int, kind: KvKind) -> None:
        super().__init__(capacity)
        self.kind = kind
        row = config.n_layers * config.n_kv_heads * kind.block_bytes(config.head_dim)
        half = ceil_div(capacity, BLOCK_POSITIONS) * row
        require_memory(f"The KV cache of {capacity:,} tokens", 2 * half, "try a smaller context (num_ctx)")
        self._keys = Arena(half, huge=half >= HUGE_PAGE)
        self._values = Arena(half, huge=half >= HUGE_PAGE)
        self.keys_address = address(self._keys.bytes)
        self.values_address = address(self._values.bytes)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes
