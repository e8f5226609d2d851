"""The forward pass: from token ids through all layers to the logits, float32 throughout.

A pass takes n new tokens, of one text or of several. x is the residual stream, (n, dim); each layer adds two
things to it, with norms where its description has them:

    x ──┬── norm ── in_proj ─── RoPE, cache, attention ── o_proj ── norm ──(+)──┬── x
        └───────────────────────────────────────────────────────────────────┘
    x ──┬── norm ── gate_up_proj ── silu(gate) * up ── down_proj ── norm ──(+)──┬── x
        └───────────────────────────────────────────────────────────────────┘

Read `ops` and `rope` first, then `attention` and `kv_cache`, then this. What some families have instead is
called from here: `activations`, `mixture` (experts), `recurrent` (layers without attention).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Attention, Description, Layer, Rope
from llama_core.backends.base import NO_LAYER
from llama_core.backends.numpy.activations import gated
from llama_core.backends.numpy.attention import attend, norm_and_rotate
from llama_core.backends.numpy.experts import FeedForwardWeights
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.mixture import mix_experts
from llama_core.backends.numpy.ops import linear, rms_norm, soft_cap
from llama_core.backends.numpy.recurrent import recur
from llama_core.backends.numpy.scratch import Scratch
from llama_core.backends.numpy.weights import AttentionWeights, LayerWeights, ModelWeights, RecurrentWeights
from llama_core.errors import Cancelled

F32 = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text's part of a pass. rows: of the residual stream; angles: cos and sin of its positions."""

    cache: KVCache
    rows: slice
    angles: Mapping[Rope, tuple[F32, F32]]


class Decoder:
    """All layers of a model and its head.

    operations: of each layer, and of NO_LAYER; max_rows: the most tokens of a pass, for which there is memory
    from the start.
    """

    def __init__(
        self,
        model: Description,
        weights: ModelWeights,
        operations: Callable[[int], Operations],
        max_rows: int,
    ) -> None:
        self.description, self.scratch = model, Scratch()
        self._weights, self._operations = weights, operations(NO_LAYER)
        self._layers = tuple(
            DecoderLayer(i, spec, own, model.norm_eps, operations(i), self.scratch)
            for i, (spec, own) in enumerate(zip(model.layers, weights.layers, strict=True))
        )
        self.scratch.rows("x", max_rows, weights.embed_tokens.shape[1])
        for layer in self._layers:
            layer.reserve(max_rows)

    def forward(
        self, ids: NDArray[np.int32], parts: Sequence[TextPart], cancelled: Callable[[], bool] | None
    ) -> F32:
        """The residual stream behind the last layer, (n, dim), in a buffer. ids: (n,), those of all parts.
        Raises Cancelled when `cancelled()`, asked before every layer, is true."""
        x = self.scratch.rows("x", len(ids), self._weights.embed_tokens.shape[1])
        np.multiply(self._weights.embed_tokens[ids], self.description.embedding_scale, out=x)
        # exp overflows on purpose (activations); NaN is found where the logits are used, not by a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            for layer in self._layers:
                if cancelled is not None and cancelled():
                    raise Cancelled
                layer.mix(x, parts)
                layer.feed_forward(x)
        return x

    def norm(self, x: F32, out: F32) -> F32:
        """What the head takes: x, (n, dim), normed into out."""
        return self._operations.norm(x, self._weights.norm, self.description.norm_eps, out=out)

    def logits(self, x: F32, out: F32) -> F32:
        """softcap(lm_head @ norm(x) * logit_scale). x: (n, dim); out: (n, vocab_size), which is written."""
        normed = self.norm(x, self.scratch.rows("normed", *x.shape))
        self._operations.head_product(normed, self._weights.lm_head, out=out)
        if self.description.logit_scale != 1.0:
            np.multiply(out, self.description.logit_scale, out=out)
        return soft_cap(out, self.description.logit_softcap) if self.description.logit_softcap else out


class DecoderLayer:
    """What one layer adds to the residual stream, in two halves."""

    def __init__(
        self, i: int, spec: Layer, weights: LayerWeights, eps: float, operations: Operations, scratch: Scratch
    ) -> None:
        self._i, self._spec, self._weights, self._eps = i, spec, weights, eps
        self._do, self._scratch = operations, scratch

    def reserve(self, n: int) -> None:
        """See that a pass of n tokens allocates nothing."""
        weights, hidden_dim = self._weights, self._spec.feed_forward.hidden_dim
        mixer = {"projected": len(weights.in_proj), "mixed": weights.o_proj.shape[1]}
        widths = {"normed": len(weights.o_proj), **mixer, "gate_up": 2 * hidden_dim, "hidden": hidden_dim}
        for name, width in widths.items():
            self._scratch.rows(name, n, width)

    def mix(self, x: F32, parts: Sequence[TextPart]) -> None:
        """x += norm(o_proj(mixer(norm(x)))), each norm where the layer has it. x: (n, dim)."""
        weights, do, rows = self._weights, self._do, self._scratch.rows
        h = self._norm(x, weights.input_layernorm, rows("normed", *x.shape))  # (n, dim)
        projected = rows("projected", len(x), len(weights.in_proj))  # q, k and v of all heads
        mixed = rows("mixed", len(x), weights.o_proj.shape[1])  # (n, q_dim)
        do.attention_product(h, weights.in_proj, projected, weights.in_bias)
        for part in parts:
            self._mix_part(part, projected[part.rows], mixed[part.rows])
        y = do.attention_product(mixed, weights.o_proj, rows("normed", *x.shape), weights.o_bias)  # (n, dim)
        self._add(x, y, weights.attention_out_norm)

    def _mix_part(self, part: TextPart, projected: F32, mixed: F32) -> None:
        """One text's positions: attention, or what the layer has instead. projected: (n, rows of in_proj);
        mixed: (n, columns of o_proj), which is written."""
        spec, own, cache = self._spec.mixer, self._weights.mixer, part.cache
        if isinstance(spec, Attention):
            assert isinstance(own, AttentionWeights)
            angles = None if spec.rope is None else part.angles[spec.rope]
            keys, values = cache.of_layer(self._i)
            self._do.norm_and_rotate(spec, own, self._eps, projected, angles)
            self._do.attend(spec, own.sinks, projected, keys, values, cache.length, mixed, self._scratch)
        else:
            assert isinstance(own, RecurrentWeights)
            self._do.recur(spec, own, self._eps, projected, *cache.states.of_layer(self._i), mixed)

    def feed_forward(self, x: F32) -> None:
        """x += norm(feed_forward(norm(x))), each norm where the layer has it. x: (n, dim)."""
        weights, experts = self._weights, self._spec.feed_forward.experts
        h = self._norm(x, weights.post_attention_layernorm, self._scratch.rows("normed", *x.shape))
        if experts is None:
            y = self._gated(h, weights.feed_forwards[0])
        else:
            assert weights.router is not None
            router = weights.router, weights.router_bias
            # Copied, since the experts' outputs take its place.
            y = mix_experts(experts, router, weights.feed_forwards, self._gated, h.copy())
        self._add(x, y, weights.feed_forward_out_norm)

    def _gated(self, h: F32, weights: FeedForwardWeights) -> F32:
        """down_proj(activation(gate) * up): (n, dim), in the buffer of what is normed. h: (n, dim)."""
        do, rows, spec = self._do, self._scratch.rows, self._spec.feed_forward
        gate_up = rows("gate_up", len(h), 2 * spec.hidden_dim)
        hidden = rows("hidden", len(h), spec.hidden_dim)
        do.feed_forward_product(h, weights.gate_up_proj, gate_up, weights.gate_up_bias)
        do.gated(spec.activation, gate_up, hidden)
        return do.feed_forward_product(hidden, weights.down_proj, rows("normed", *h.shape), weights.down_bias)

    def _norm(self, x: F32, weight: F32 | None, out: F32) -> F32:
        """The normed x, or x itself where no norm stands. x, out: (n, dim)."""
        return x if weight is None else self._do.norm(x, weight, self._eps, out=out)

    def _add(self, x: F32, y: F32, norm: F32 | None) -> None:
        """x += residual_scale * norm(y), y overwritten. x, y: (n, dim)."""
        self._norm(y, norm, y)
        if self._spec.residual_scale != 1.0:
            np.multiply(y, self._spec.residual_scale, out=y)
        np.add(x, y, out=x)
