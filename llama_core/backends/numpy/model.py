"""The Llama model in NumPy: float32 from the weights to the logits.

One pass takes n new tokens through all layers. x is the residual stream, (n, dim); each layer adds two
things to it:

    x ──┬── norm ── qkv_proj ── RoPE, cache, attention ── o_proj ──(+)──┬── x
        └───────────────────────────────────────────────────────────┘
    x ──┬── norm ── gate_up_proj ── swiglu ── down_proj ───────────(+)──┬── x
        └───────────────────────────────────────────────────────────┘

Nothing of the size of the model or of the context is allocated in a pass: the buffers are made once, and the
views into them once for a pass (`SequencePass`), so that a layer is little more than its four products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Logits, require_tokens
from llama_core.backends.numpy.attention import AttentionScratch, SequencePass
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.ops import feature_major, linear, rms_norm, swiglu
from llama_core.backends.numpy.rope import RopeTable
from llama_core.backends.numpy.weights import LayerWeights, ModelWeights
from llama_core.blas import BlasThreads
from llama_core.config import ModelConfig
from llama_core.errors import Cancelled
from llama_core.memory import require_memory

F32 = NDArray[np.float32]

# Tokens of a prompt per pass: enough that products run at full speed, few enough that a layer of the default
# model is a matter of milliseconds (cancellation is asked for between layers).
PREFILL_CHUNK = 256


class Llama:
    """A loaded model; implements `backend.Model`.

    threads: how many the BLAS may use, None for its own choice.
    """

    def __init__(self, config: ModelConfig, weights: ModelWeights, threads: int | None = None) -> None:
        self._config = config
        self.weights = weights
        self._blas = BlasThreads(threads)
        self._max_rows = min(PREFILL_CHUNK, config.max_seq_len)
        self._rope = RopeTable(config, weights.rope_freqs)
        self._attention = AttentionScratch(config, self._max_rows)
        rows = self._max_rows
        # Flat: a pass reads their front as (n, columns), see feature_major.
        self._x: F32 = np.empty(rows * config.dim, dtype=np.float32)
        self._normed: F32 = np.empty(rows * config.dim, dtype=np.float32)
        self._qkv: F32 = np.empty(rows * (config.q_dim + 2 * config.kv_dim), dtype=np.float32)
        self._heads: F32 = np.empty(rows * config.q_dim, dtype=np.float32)
        self._gate_up: F32 = np.empty(rows * 2 * config.hidden_dim, dtype=np.float32)
        self._hidden: F32 = np.empty(rows * config.hidden_dim, dtype=np.float32)
        self._logits: F32 = np.empty((1, config.vocab_size), dtype=np.float32)

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def backend(self) -> str:
        """For people."""
        return "numpy float32"

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
        return self.weights.nbytes

    @property
    def scratch_bytes(self) -> int:
        """Activations, scores, logits and the RoPE tables."""
        own = sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray))
        return own + self._attention.nbytes + self._rope.nbytes

    @property
    def mapped_bytes(self) -> int:
        """0: the weights are copies, the file is no longer needed."""
        return 0

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache. Raises NotEnoughMemoryError before allocating what would not fit."""
        cache = KVCache(self._config, capacity)
        positions = cache.keys.shape[2]
        self._attention.grow(positions)
        self._rope.grow(capacity)
        return cache

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

    def forward_batch(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], Cache]],
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """Several sequences in one pass: each product runs once over all rows, attention per sequence.

        sequences: (token_ids, cache) pairs with caches of their own, together at most `prefill_chunk` tokens.
        Returns the logits after each one's last token, (n_sequences, vocab_size), valid until the next call.
        """
        x = self._pass(sequences, cancelled)
        ends = np.cumsum([len(ids) for ids, _ in sequences]) - 1
        return self._head(x[ends])

    def close(self) -> None:
        """Give the BLAS back the number of threads it had."""
        self._blas.restore()

    def _pass(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], Cache]],
        cancelled: Callable[[], bool] | None,
    ) -> F32:
        """All layers for all sequences; returns the residual stream, (n, dim), and advances the caches."""
        config = self._config
        n = self._check(sequences)
        x = feature_major(self._x, n, config.dim)
        normed = feature_major(self._normed, n, config.dim)
        qkv = feature_major(self._qkv, n, config.q_dim + 2 * config.kv_dim)
        heads = feature_major(self._heads, n, config.q_dim)
        gate_up = feature_major(self._gate_up, n, 2 * config.hidden_dim)
        hidden = feature_major(self._hidden, n, config.hidden_dim)
        parts = []
        row = 0
        for ids, cache in sequences:
            stop = row + len(ids)
            x[row:stop] = self.weights.embed_tokens[ids]
            parts.append(
                SequencePass(config, self._rope, _own(cache), qkv[row:stop], heads[row:stop], self._attention)
            )
            row = stop
        stream = x
        if n == 1:  # as plain vectors: half a percent of a decode step
            x, normed, qkv, heads, gate_up, hidden = (a[0] for a in (x, normed, qkv, heads, gate_up, hidden))
        # exp overflows on purpose (swiglu); NaN is found where the logits are used, not by a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            for i, layer in enumerate(self.weights.layers):
                if cancelled is not None and cancelled():
                    raise Cancelled
                self._attend(i, layer, parts, x, normed, qkv, heads)
                self._feed_forward(layer, x, normed, gate_up, hidden)
        for ids, cache in sequences:
            _own(cache).advance(len(ids))
        return stream

    def _check(self, sequences: Sequence[tuple[NDArray[np.int32], Cache]]) -> int:
        """The tokens of all sequences together, having checked that they can be computed."""
        n = require_tokens(sequences, self._max_rows)
        for ids, cache in sequences:
            _own(cache).require_room(len(ids))
            if ids.min() < 0 or ids.max() >= self._config.vocab_size:
                raise ValueError(f"token ids must be 0 to {self._config.vocab_size - 1}")
        return n

    def _attend(
        self,
        i: int,
        layer: LayerWeights,
        parts: list[SequencePass],
        x: F32,
        normed: F32,
        qkv: F32,
        heads: F32,
    ) -> None:
        """x += o_proj(attention(norm(x)))"""
        rms_norm(x, layer.input_layernorm, self._config.norm_eps, out=normed)
        linear(normed, layer.qkv_proj, out=qkv)
        if layer.qkv_bias is not None:
            np.add(qkv, layer.qkv_bias, out=qkv)
        for part in parts:
            part.run(i, layer.q_norm, layer.k_norm)
        linear(heads, layer.o_proj, out=normed)
        if layer.o_bias is not None:
            np.add(normed, layer.o_bias, out=normed)
        np.add(x, normed, out=x)

    def _feed_forward(self, layer: LayerWeights, x: F32, normed: F32, gate_up: F32, hidden: F32) -> None:
        """x += down_proj(swiglu(gate_up_proj(norm(x))))"""
        rms_norm(x, layer.post_attention_layernorm, self._config.norm_eps, out=normed)
        linear(normed, layer.gate_up_proj, out=gate_up)
        if layer.gate_up_bias is not None:
            np.add(gate_up, layer.gate_up_bias, out=gate_up)
        swiglu(gate_up, out=hidden)
        linear(hidden, layer.down_proj, out=normed)
        if layer.down_bias is not None:
            np.add(normed, layer.down_bias, out=normed)
        np.add(x, normed, out=x)

    def _head(self, x: F32) -> F32:
        """Logits of the rows of x: (len(x), vocab_size)."""
        n = len(x)
        if n > len(self._logits):
            vocab = self._config.vocab_size
            require_memory(f"Logits of {n} tokens", 4 * n * vocab, "take fewer tokens at once")
            self._logits = np.empty((n, vocab), dtype=np.float32)
        normed = rms_norm(
            x, self.weights.norm, self._config.norm_eps, out=feature_major(self._normed, n, self._config.dim)
        )
        return linear(normed, self.weights.lm_head, out=self._logits[:n])


def _own(cache: Cache) -> KVCache:
    """The cache as this model's own kind; raises TypeError for another backend's."""
    if not isinstance(cache, KVCache):
        raise TypeError(f"the NumPy model needs its own cache, not {type(cache).__name__}")
    return cache
