"""A decoder in NumPy: float32 from the weights to the logits.

One pass takes n new tokens through all layers. x is the residual stream, (n, dim); each layer adds two
things to it, with norms where its description has them:

    x ──┬── norm ── in_proj ─── RoPE, cache, attention ── o_proj ── norm ──(+)──┬── x
        └───────────────────────────────────────────────────────────────────┘
    x ──┬── norm ── gate_up_proj ── silu(gate) * up ── down_proj ── norm ──(+)──┬── x
        └───────────────────────────────────────────────────────────────────┘

Layers that have a state instead of attention keep it in the same cache.

Read `ops` and `rope`, then `attention` and `recurrent`, then `forward` here. Nothing of the size of the model
or of the context is allocated in a pass: its arrays are parts of buffers that are made once (`Scratch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.architectures.base import Activation, Attention, Experts, Rope
from llama_core.architectures.rope import takes_long_factors
from llama_core.backends.base import Cache, Logits, require_tokens
from llama_core.backends.numpy.attention import TILE, attend, norm_and_rotate
from llama_core.backends.numpy.experts import FeedForwardWeights
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.ops import (
    Scratch,
    gated,
    linear,
    rms_norm,
    soft_cap,
)
from llama_core.backends.numpy.recurrent import recur
from llama_core.backends.numpy.rope import RopeTable
from llama_core.backends.numpy.weights import (
    AttentionWeights,
    LayerWeights,
    ModelWeights,
    RecurrentWeights,
)
from llama_core.blas import BlasThreads
from llama_core.config import ModelConfig
from llama_core.errors import Cancelled
from llama_core.memory import require_memory

F32 = NDArray[np.float32]
Sequences = Sequence[tuple[NDArray[np.int32], Cache]]

# Tokens of a prompt per pass: enough that products run at full speed, few enough that a layer of the default
# model is a matter of milliseconds (cancellation is asked for between layers).
PREFILL_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Operations:
    """The functions that a layer calls, by what it calls them for; a profiler gives others, with clocks."""

    norm: Callable[..., F32] = rms_norm
    attention_product: Callable[..., F32] = linear
    norm_and_rotate: Callable[..., None] = norm_and_rotate
    attend: Callable[..., None] = attend
    recur: Callable[..., None] = recur
    feed_forward_product: Callable[..., F32] = linear
    gated: Callable[..., F32] = gated
    head_product: Callable[..., F32] = linear


PLAIN = Operations()
NO_LAYER = -1  # of the head and its norm


@dataclass(frozen=True, slots=True)
class _Rows:
    """The activations of a pass, one row a token: x, normed: (n, dim); gate_up: (n, 2 hidden_dim); hidden:
    (n, hidden_dim)."""

    x: F32
    normed: F32
    gate_up: F32
    hidden: F32


@dataclass(frozen=True, slots=True)
class _Part:
    """A sequence's part of a pass. rows: of the residual stream; angles: of its positions."""

    cache: KVCache
    rows: slice
    angles: Mapping[Rope, tuple[F32, F32]]


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
        self._model = describe(config)
        self.weights = weights
        self._operations = {i: operations(i) for i in (*range(config.n_layers), NO_LAYER)}
        self._blas = BlasThreads(threads)
        self._max_rows = min(PREFILL_CHUNK, config.max_seq_len)
        self._angles: dict[tuple[Rope, bool], RopeTable] = {}  # the second: by LongRoPE's long factors
        self._scratch = Scratch()
        self._rows(self._max_rows)
        for layer in weights.layers:
            self._mixer_rows(layer, self._max_rows)
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
        return (
            self._scratch.nbytes + self._logits.nbytes + sum(table.nbytes for table in self._angles.values())
        )

    @property
    def mapped_bytes(self) -> int:
        """The experts that stay in the file; all else is copied."""
        return self.weights.mapped_bytes

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache. Raises NotEnoughMemoryError before allocating what would not fit."""
        cache = KVCache(self._config, capacity)
        rows = self._config.n_heads * min(TILE, self._max_rows)
        self._scratch.flat("scores", rows * cache.keys.shape[2])
        for rope in {attention.rope for attention in self._model.attentions()}:
            if rope is None:
                continue
            key = (rope, takes_long_factors(rope, capacity))
            if key not in self._angles or capacity > len(self._angles[key].cos):
                self._angles[key] = RopeTable(rope, self.weights.rope_freqs, capacity)
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
        return self._norm(NO_LAYER, x, self.weights.norm, np.empty_like(x)).copy()

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
        n = require_tokens(sequences, self._max_rows)
        rows = self._rows(n)
        x = rows.x
        parts, row = [], 0
        for ids, cache in sequences:
            own, start, own_rows = _own(cache), cache.length, slice(row, row + len(ids))
            own.require_room(len(ids))
            if ids.min() < 0 or ids.max() >= self._config.vocab_size:
                raise ValueError(f"token ids must be 0 to {self._config.vocab_size - 1}")
            x[own_rows] = self.weights.embed_tokens[ids]
            angles = {
                rope: table.rows(start, start + len(ids))
                for (rope, long), table in self._angles.items()
                if long == takes_long_factors(rope, own.capacity)
            }
            parts.append(_Part(own, own_rows, angles))
            row = own_rows.stop
        if self._model.embedding_scale != 1.0:
            np.multiply(x, self._model.embedding_scale, out=x)
        # exp overflows on purpose (swiglu); NaN is found where the logits are used, not by a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(self._config.n_layers):
                if cancelled is not None and cancelled():
                    raise Cancelled
                self._mix(i, rows, parts)
                self._feed_forward(i, rows)
        for part in parts:
            part.cache.advance(part.rows.stop - part.rows.start)
        return x

    def _rows(self, n: int) -> _Rows:
        """The activations of n tokens, in buffers of the model's."""
        config, rows = self._config, self._scratch.rows
        return _Rows(
            x=rows("x", n, config.dim),
            normed=rows("normed", n, config.dim),
            gate_up=rows("gate_up", n, 2 * config.hidden_dim),
            hidden=rows("hidden", n, config.hidden_dim),
        )

    def _mixer_rows(self, weights: LayerWeights, n: int) -> tuple[F32, F32]:
        """What in_proj gives and o_proj takes, in buffers that all layers share: (n, rows of in_proj), (n,
        columns of o_proj)."""
        rows = self._scratch.rows
        return rows("projected", n, len(weights.in_proj)), rows("mixed", n, weights.o_proj.shape[1])

    def _mix(self, i: int, rows: _Rows, parts: list[_Part]) -> None:
        """x += norm(o_proj(mixer(norm(x)))), each norm where the layer has it."""
        spec, weights, do = self._model.layers[i].mixer, self.weights.layers[i], self._operations[i]
        projected, mixed = self._mixer_rows(weights, len(rows.x))
        h = self._norm(i, rows.x, weights.input_layernorm, rows.normed)  # (n, dim)
        do.attention_product(h, weights.in_proj, projected, weights.in_bias)
        eps, own = self._model.norm_eps, weights.mixer
        for part in parts:
            cache, given, out = part.cache, projected[part.rows], mixed[part.rows]
            if isinstance(spec, Attention):
                assert isinstance(own, AttentionWeights)
                angles = None if spec.rope is None else part.angles[spec.rope]
                do.norm_and_rotate(spec, own, eps, given, angles)
                do.attend(spec, own.sinks, given, *cache.of_layer(i), cache.length, out, self._scratch)
            else:
                assert isinstance(own, RecurrentWeights)
                do.recur(spec, own, eps, given, *cache.states.of_layer(i), out)
        y = do.attention_product(mixed, weights.o_proj, rows.normed, weights.o_bias)  # (n, dim)
        self._add(i, rows.x, y, weights.attention_out_norm)

    def _feed_forward(self, i: int, rows: _Rows) -> None:
        """x += norm(feed_forward(norm(x))), each norm where the layer has it."""
        spec, weights = self._model.layers[i].feed_forward, self.weights.layers[i]
        h = self._norm(i, rows.x, weights.post_attention_layernorm, rows.normed)  # (n, dim)
        if spec.experts is None:
            y = self._expert(i, h, weights.feed_forwards[0], spec.activation, rows)
        else:
            assert weights.router is not None
            h = h.copy()  # the experts' outputs take its place
            chosen, shares = route(h, weights.router, weights.router_bias, spec.experts)
            y = np.zeros_like(h)
            for e in np.unique(chosen).tolist():
                at, places = np.nonzero(chosen == e)  # tokens that chose it, and as which of theirs
                out = self._expert(i, h[at], weights.feed_forwards[e], spec.activation, self._rows(len(at)))
                y[at] += out * shares[at, places][:, None]
        self._add(i, rows.x, y, weights.feed_forward_out_norm)

    def _expert(self, i: int, h: F32, weights: FeedForwardWeights, kind: Activation, rows: _Rows) -> F32:
        """down_proj(activation(gate) * up), which takes the place of `rows.normed`. h: (n, dim)."""
        do = self._operations[i]
        do.feed_forward_product(h, weights.gate_up_proj, rows.gate_up, weights.gate_up_bias)
        do.gated(kind, rows.gate_up, rows.hidden)  # (n, 2 hidden_dim) to (n, hidden_dim)
        return do.feed_forward_product(rows.hidden, weights.down_proj, rows.normed, weights.down_bias)

    def _norm(self, i: int, x: F32, weight: F32 | None, out: F32) -> F32:
        """The normed x, or x itself where no norm stands. x, out: (n, dim)."""
        return x if weight is None else self._operations[i].norm(x, weight, self._model.norm_eps, out=out)

    def _add(self, i: int, x: F32, y: F32, norm: F32 | None) -> None:
        """x += residual_scale * norm(y), y overwritten. x, y: (n, dim)."""
        scale = self._model.layers[i].residual_scale
        self._norm(i, y, norm, y)
        if scale != 1.0:
            np.multiply(y, scale, out=y)
        np.add(x, y, out=x)

    def _head(self, x: F32) -> F32:
        """Logits of the rows of x: (len(x), vocab_size)."""
        n, vocab_size = len(x), self._config.vocab_size
        if n > len(self._logits):
            require_memory(f"Logits of {n} tokens", 4 * n * vocab_size, "take fewer tokens at once")
            self._logits = np.empty((n, vocab_size), dtype=np.float32)
        normed = self._norm(NO_LAYER, x, self.weights.norm, self._scratch.rows("normed", *x.shape))
        logits = self._operations[NO_LAYER].head_product(normed, self.weights.lm_head, out=self._logits[:n])
        if self._model.logit_scale != 1.0:
            np.multiply(logits, self._model.logit_scale, out=logits)
        if self._model.logit_softcap:
            soft_cap(logits, self._model.logit_softcap)
        return logits


def route(h: F32, router: F32, bias: F32 | None, spec: Experts) -> tuple[NDArray[np.intp], F32]:
    """The experts of each token and their weights. h: (n, dim), router: (n experts, dim); both (n,
    n_used)."""
    scores = linear(h, router, np.empty((len(h), spec.n), dtype=np.float32), bias)
    chosen = np.argsort(-scores, axis=-1, kind="stable")[:, : spec.n_used]
    best = np.take_along_axis(scores, chosen, axis=-1)
    # Divided by its sum, a softmax over all is the softmax over the chosen.
    over = best if spec.weights == "normalised" else scores
    top = over.max(axis=-1, keepdims=True)
    return chosen, np.exp(best - top) / np.exp(over - top).sum(axis=-1, keepdims=True)


def _own(cache: Cache) -> KVCache:
    """The cache as this model's own kind; raises TypeError for another backend's."""
    if not isinstance(cache, KVCache):
        raise TypeError(f"the NumPy model needs its own cache, not {type(cache).__name__}")
    return cache
