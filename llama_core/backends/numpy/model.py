"""The NumPy model as the engine asks for it: caches, passes of one or several texts, and what it holds.

What it computes is `decoder`, the page to read. Nothing of the size of the model or of the context is
allocated in a pass: its arrays are parts of buffers that are made once (`scratch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.architectures.base import Rope
from llama_core.architectures.rope import takes_long_factors
from llama_core.backends.base import Cache, Logits, require_tokens
from llama_core.backends.numpy.attention import TILE
from llama_core.backends.numpy.decoder import PLAIN, Decoder, Operations, TextPart
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.rope import RopeTable
from llama_core.backends.numpy.weights import ModelWeights
from llama_core.blas import BlasThreads
from llama_core.config import ModelConfig
from llama_core.memory import require_memory

F32 = NDArray[np.float32]
Sequences = Sequence[tuple[NDArray[np.int32], Cache]]

# Tokens of a prompt per pass: enough that products run at full speed, few enough that a layer of the default
# model is a matter of milliseconds (cancellation is asked for between layers).
PREFILL_CHUNK = 256


class Llama:
    """A loaded model of any family; implements `backend.Model`.

    threads: how many the BLAS may use, None for its own choice. operations: of each layer, and of NO_LAYER.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        threads: int | None = None,
        operations: Callable[[int], Operations] = lambda layer: PLAIN,
    ) -> None:
        self._config = config
        self.weights = weights
        self._blas = BlasThreads(threads)
        self._max_rows = min(PREFILL_CHUNK, config.max_seq_len)
        self._decoder = Decoder(describe(config), weights, operations, self._max_rows)
        self._angles: dict[tuple[Rope, bool], RopeTable] = {}  # the second: by LongRoPE's long factors
        self._logits: F32 = np.empty((1, config.vocab_size), dtype=np.float32)

    @property
    def config(self) -> ModelConfig:
        """The shapes and numbers that the checkpoint gives."""
        return self._config

    @property
    def backend(self) -> str:
        """For people."""
        return "numpy float32"

    @property
    def arithmetic(self) -> str:
        """NumPy's and the BLAS's own: each sums in its own order."""
        return f"numpy {np.__version__}, {self._blas.description}"

    @property
    def threads(self) -> int:
        """Threads of the BLAS; everything between the products runs in the caller's own."""
        return self._blas.threads

    @property
    def prefill_chunk(self) -> int:
        """The most tokens one pass takes."""
        return self._max_rows

    @property
    def weights_bytes(self) -> int:
        """Memory of the weights as they are kept, in bytes."""
        return self.weights.nbytes

    @property
    def scratch_bytes(self) -> int:
        """Activations, scores, logits and the RoPE tables."""
        tables = sum(table.nbytes for table in self._angles.values())
        return self._decoder.scratch.nbytes + self._logits.nbytes + tables

    @property
    def mapped_bytes(self) -> int:
        """The experts that stay in the file; all else is copied."""
        return self.weights.mapped_bytes

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache. Raises NotEnoughMemoryError before allocating what would not fit."""
        return self._own(KVCache(self._config, capacity))

    def _own(self, cache: Cache) -> KVCache:
        """The cache as this model's own kind; tables and scores reach as far. Raises TypeError for another
        backend's, ValueError for that of another model."""
        if not isinstance(cache, KVCache):
            raise TypeError(f"the NumPy model needs its own cache, not {type(cache).__name__}")
        cache.require_config(self._config)
        rows = self._config.n_heads * min(TILE, self._max_rows)
        self._decoder.scratch.flat("scores", rows * cache.keys.shape[2])
        for rope in {attention.rope for attention in self._decoder.description.attentions()}:
            if rope is None:
                continue
            key = (rope, takes_long_factors(rope, cache.capacity))
            if key not in self._angles or cache.capacity > len(self._angles[key].cos):
                self._angles[key] = RopeTable(rope, self.weights.rope_freqs, cache.capacity)
        return cache

    def close(self) -> None:
        """Give the BLAS back the number of threads it had."""
        self._blas.restore()

    def forward(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """Compute `token_ids`, shape (n,), behind what `cache` holds, and append them to it.

        Returns float32 logits, valid until the next call: (vocab_size,) for "last", (n, vocab_size) for
        "all", (0,) for "none". Raises Cancelled when `cancelled()`, asked before every layer, is true, and
        ContextFullError; the cache then keeps its length, as with any other exception.
        """
        x = self._pass([(token_ids, cache)], cancelled)
        if logits == "none":
            return self._logits[0, :0]
        if logits == "last":
            last: F32 = self._head(x[-1:])[0]
            return last
        return self._head(x)

    def hidden_states(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """What the head would take of `token_ids`: (n, dim), normed. Otherwise as `forward`."""
        x = self._pass([(token_ids, cache)], cancelled)
        return np.ascontiguousarray(self._decoder.norm(x, np.empty_like(x)))

    def forward_batch(
        self,
        sequences: Sequences,
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """Several sequences in one pass: each product runs once over all rows, attention per sequence.

        sequences: (token_ids, cache) pairs with caches of their own, together at most `prefill_chunk` tokens.
        Returns the logits after each one's last token, (n_sequences, vocab_size), or for "all" after each
        token, (n, vocab_size); valid until the next call.
        """
        x = self._pass(sequences, cancelled)
        if logits == "all":
            return self._head(x)
        ends = np.cumsum([len(ids) for ids, _ in sequences]) - 1
        return self._head(x[ends])

    def _pass(self, sequences: Sequences, cancelled: Callable[[], bool] | None) -> F32:
        """All layers for all sequences; returns the residual stream, (n, dim), and advances the caches."""
        ids = require_tokens(sequences, self._max_rows, self._config.vocab_size)
        parts, row = [], 0
        for part_ids, cache in sequences:
            own, n = self._own(cache), len(part_ids)
            own.require_room(n)
            angles = {
                rope: table.rows(own.length, own.length + n)
                for (rope, long), table in self._angles.items()
                if long == takes_long_factors(rope, own.capacity)
            }
            parts.append(TextPart(own, slice(row, row + n), angles))
            row += n
        x = self._decoder.forward(ids, parts, cancelled)
        for part in parts:
            part.cache.advance(part.rows.stop - part.rows.start)
        return x

    def _head(self, x: F32) -> F32:
        """Logits of the rows of x: (len(x), vocab_size)."""
        n, vocab_size = len(x), self._config.vocab_size
        if n > len(self._logits):
            require_memory(f"Logits of {n} tokens", 4 * n * vocab_size, "take fewer tokens at once")
            self._logits = np.empty((n, vocab_size), dtype=np.float32)
        return self._decoder.logits(x, self._logits[:n])
