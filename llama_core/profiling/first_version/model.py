"""The "before" of every experiment: a plain Llama in NumPy, written the way such first versions are.

The algorithm is that of llama3.np, told in our own words, with its habits kept on purpose:

- matrices are stored as files hold them and used through `.T`, one product each for q, k, v, gate and up;
- RoPE pairs neighbours (2j, 2j + 1) by reshape, split, squeeze and stack;
- grouped heads are repeated with `np.repeat`;
- three arrays are float64 because nobody said otherwise: the RoPE tables, the cache from `np.zeros`, the
  mask. Each turns what it touches into float64, and every later product converts its weights again;
- locals are annotated;
- the published loop feeds decode step k at position L + k + 1, which leaves a hole of zeros in the cache
  at L. `position_slip` brings that back; it is off when outputs are compared.

Nothing here is used by the engine. `Leaks` closes each leak by itself, and `rope` gives another form of RoPE,
for experiments in an otherwise unchanged program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.checkpoint import Checkpoint
from llama_core.errors import UnsupportedModelError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Leaks:
    """Which of the three float64 leaks are open (True: as published)."""

    rope: bool = True
    cache: bool = True
    mask: bool = True


def softmax(x: Array) -> Array:
    """Over the last axis, any shape."""
    exp_x: Array = np.exp(x - np.max(x, axis=-1, keepdims=True))
    result: Array = exp_x / np.sum(exp_x, axis=-1, keepdims=True)
    return result


def silu(x: Array) -> Array:
    """x * sigmoid(x) (Hendrycks and Gimpel, arXiv:1606.08415), any shape."""
    result: Array = x * (1 / (1 + np.exp(-x)))
    return result


def rope_tables(head_dim: int, max_seq_len: int, theta: float) -> tuple[Array, Array]:
    """cos and sin, each (max_seq_len, head_dim / 2), float64."""
    inv_freq: Array = 1.0 / (theta ** (np.arange(0, head_dim, 2) / head_dim))
    angles: Array = np.outer(np.arange(max_seq_len), inv_freq)
    return np.cos(angles), np.sin(angles)


def apply_rope(xq: Array, xk: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    """xq: (batch, seq, n_heads, head_dim), xk the same with n_kv_heads, tables: (seq, head_dim / 2)."""
    xq_pairs: Array = xq.reshape((*xq.shape[:-1], -1, 2))
    xk_pairs: Array = xk.reshape((*xk.shape[:-1], -1, 2))
    q_even, q_odd = np.split(xq_pairs, 2, axis=-1)
    k_even, k_odd = np.split(xk_pairs, 2, axis=-1)
    q_even, q_odd = q_even.squeeze(-1), q_odd.squeeze(-1)
    k_even, k_odd = k_even.squeeze(-1), k_odd.squeeze(-1)
    cos = np.expand_dims(cos, axis=(0, 2))
    sin = np.expand_dims(sin, axis=(0, 2))
    q_turned_even: Array = q_even * cos - q_odd * sin
    q_turned_odd: Array = q_even * sin + q_odd * cos
    k_turned_even: Array = k_even * cos - k_odd * sin
    k_turned_odd: Array = k_even * sin + k_odd * cos
    q_out: Array = np.stack([q_turned_even, q_turned_odd], axis=-1)
    k_out: Array = np.stack([k_turned_even, k_turned_odd], axis=-1)
    return q_out.reshape(xq.shape), k_out.reshape(xk.shape)


# (xq, xk, cos, sin) to the rotated xq and xk, shapes as `apply_rope`.
Rope = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


def repeat_kv(x: Array, n_rep: int) -> Array:
    """x: (batch, seq, n_kv_heads, head_dim), each head n_rep times: (batch, seq, n_heads, head_dim)."""
    if n_rep == 1:
        return x
    return np.repeat(x, n_rep, axis=2)


class RMSNorm:
    """x: (..., dim), weight: (dim,); x by its root mean square (Zhang and Sennrich, arXiv:1910.07467)."""

    def __init__(self, weight: Array, eps: float) -> None:
        self.weight = weight
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        """x and the result: (..., dim)."""
        mean_square: Array = (x**2).mean(-1, keepdims=True) + self.eps
        result: Array = x / np.sqrt(mean_square) * self.weight
        return result


class FeedForward:
    """SwiGLU (Shazeer, arXiv:2002.05202) over x: (batch, seq, dim); gate, up: (hidden_dim, dim), down: the
    other way."""

    def __init__(self, gate: Array, up: Array, down: Array) -> None:
        self.gate_weight = gate.T
        self.up_weight = up.T
        self.down_weight = down.T

    def __call__(self, x: Array) -> Array:
        """x and the result: (batch, seq, dim)."""
        gate: Array = silu(x @ self.gate_weight)
        up: Array = x @ self.up_weight
        result: Array = (gate * up) @ self.down_weight
        return result


class Attention:
    """Grouped-query attention (Ainslie et al., arXiv:2305.13245) over x: (batch, seq, dim), and its cache."""

    def __init__(
        self,
        q: Array,
        k: Array,
        v: Array,
        o: Array,
        cache_shape: tuple[int, ...],
        dtype: Any,
        rope: Rope = apply_rope,
    ) -> None:
        self.rope = rope
        self.q_weight = q.T
        self.k_weight = k.T
        self.v_weight = v.T
        self.o_weight = o.T
        self.head_dim = cache_shape[-1]
        self.n_kv_heads = cache_shape[-2]
        self.cache_k: Array = np.zeros(cache_shape, dtype=dtype)
        self.cache_v: Array = np.zeros(cache_shape, dtype=dtype)

    def __call__(self, x: Array, start: int, mask: Array | None, cos: Array, sin: Array) -> Array:
        """x and the result: (batch, seq, dim); keys and values go into the cache from `start` on."""
        batch, seq, _ = x.shape
        xq: Array = x @ self.q_weight
        xk: Array = x @ self.k_weight
        xv: Array = x @ self.v_weight
        xq = xq.reshape(batch, seq, -1, self.head_dim)
        xk = xk.reshape(batch, seq, -1, self.head_dim)
        xv = xv.reshape(batch, seq, -1, self.head_dim)
        xq, xk = self.rope(xq, xk, cos, sin)
        self.cache_k[:batch, start : start + seq] = xk
        self.cache_v[:batch, start : start + seq] = xv
        n_rep: int = xq.shape[2] // self.n_kv_heads
        keys: Array = repeat_kv(self.cache_k[:batch, : start + seq], n_rep)
        values: Array = repeat_kv(self.cache_v[:batch, : start + seq], n_rep)
        xq = xq.transpose(0, 2, 1, 3)
        keys = keys.transpose(0, 2, 1, 3)
        values = values.transpose(0, 2, 1, 3)
        scores: Array = xq @ keys.transpose(0, 1, 3, 2) / math.sqrt(self.head_dim)
        if mask is not None:
            scores = scores + mask
        output: Array = softmax(scores) @ values
        result: Array = output.transpose(0, 2, 1, 3).reshape(batch, seq, -1) @ self.o_weight
        return result


class Block:
    """One layer: x and the result (batch, seq, dim), from position `start` on."""

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, norms: tuple[RMSNorm, RMSNorm]
    ) -> None:
        self.attention = attention
        self.feed_forward = feed_forward
        self.input_layernorm, self.post_attention_layernorm = norms

    def __call__(self, x: Array, start: int, mask: Array | None, cos: Array, sin: Array) -> Array:
        """Attention, then the feed-forward, each added to its input."""
        h: Array = x + self.attention(self.input_layernorm(x), start, mask, cos, sin)
        result: Array = h + self.feed_forward(self.post_attention_layernorm(h))
        return result


def interleave_rows(weight: Array, head_dim: int) -> Array:
    """Rows from "rotate half" order (j beside j + head_dim / 2) to neighbours (2j, 2j + 1), head by head."""
    heads = weight.reshape(-1, 2, head_dim // 2, weight.shape[-1])
    return np.ascontiguousarray(heads.transpose(0, 2, 1, 3)).reshape(weight.shape)


class BaselineLlama:
    """The model of this module on the float32 values of a checkpoint, for `batch` sequences of equal length.

    Raises UnsupportedModelError for what first versions lack: biases, q/k norms, partial or scaled RoPE,
    sliding windows.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        max_seq_len: int | None = None,
        *,
        batch: int = 1,
        leaks: Leaks | None = None,
        position_slip: bool = False,
        rope: Rope = apply_rope,
    ) -> None:
        config = checkpoint.config
        if config.attention_bias or config.qk_norm or config.sliding_window or config.rope_scaling:
            raise UnsupportedModelError(
                checkpoint.path, "config", "the baseline runs plain Llama models only"
            )
        if config.n_rotated != config.head_dim or "rope_freqs" in checkpoint.tensors:
            raise UnsupportedModelError(checkpoint.path, "config", "the baseline rotates whole heads only")
        self.config = config
        self.leaks = leaks or Leaks()
        self.position_slip = position_slip
        self.rope = rope
        self.max_seq_len = max_seq_len or config.max_seq_len
        weight = {name: tensor.to_float32() for name, tensor in checkpoint.tensors.items()}
        self.embed_tokens: Array = weight["embed_tokens"]
        self.cos, self.sin = rope_tables(config.head_dim, self.max_seq_len, config.rope_theta)
        if not self.leaks.rope:
            self.cos, self.sin = self.cos.astype(np.float32), self.sin.astype(np.float32)
        self.cache_shape = (batch, self.max_seq_len, config.n_kv_heads, config.head_dim)
        self.blocks = [self._block(weight, f"layers.{i}.") for i in range(config.n_layers)]
        self.norm = RMSNorm(weight["norm"], config.norm_eps)
        self.lm_head: Array = weight.get("lm_head", self.embed_tokens).T

    def _block(self, weight: dict[str, Any], prefix: str) -> Block:
        head_dim, eps = self.config.head_dim, self.config.norm_eps
        attention = Attention(
            interleave_rows(weight[prefix + "q_proj"], head_dim),
            interleave_rows(weight[prefix + "k_proj"], head_dim),
            weight[prefix + "v_proj"],
            weight[prefix + "o_proj"],
            self.cache_shape,
            np.float64 if self.leaks.cache else np.float32,
            self.rope,
        )
        feed_forward = FeedForward(*(weight[prefix + name] for name in ("gate_proj", "up_proj", "down_proj")))
        norms = (
            RMSNorm(weight[prefix + "input_layernorm"], eps),
            RMSNorm(weight[prefix + "post_attention_layernorm"], eps),
        )
        return Block(attention, feed_forward, norms)

    def __call__(self, input_ids: Array, start: int) -> Array:
        """input_ids: (batch, seq) at positions start .. start + seq; logits (batch, 1, vocab_size)."""
        _, seq = input_ids.shape
        h: Array = self.embed_tokens[input_ids]
        cos: Array = self.cos[start : start + seq]
        sin: Array = self.sin[start : start + seq]
        mask: Array | None = None
        if seq > 1:
            mask = np.triu(np.full((seq, seq), float("-inf")), k=1)
            mask = np.concatenate([np.zeros((seq, start)), mask], axis=1)
            if not self.leaks.mask:
                mask = mask.astype(np.float32)
        for block in self.blocks:
            h = block(h, start, mask, cos, sin)
        h = self.norm(h)
        logits: Array = h[:, [-1], :] @ self.lm_head
        return logits

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """The greedy continuation of one prompt, id by id, past end tokens, up to the end of the tables."""
        input_ids: Array = np.array([list(prompt_ids)])
        start: int = 0
        position: int = len(prompt_ids) + int(self.position_slip)
        for _ in range(max_new_tokens):
            logits: Array = self(input_ids, start)
            next_id: int = int(logits[0, -1, :].argmax())
            yield next_id
            if position >= self.max_seq_len:
                return
            input_ids, start = np.array([[next_id]]), position
            position += 1
