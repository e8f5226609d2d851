"""The ceiling: how fast a token could be if nothing but reading memory, or arithmetic, cost time.

Decoding one token reads every weight once and the keys and values of every position before it:

    time floor = max( (weight bytes + KV bytes) / bandwidth ,  multiply-adds / arithmetic peak )

A measured rate is stated as a fraction of the rate this allows (the roofline model: Williams, Waterman and
Patterson, Communications of the ACM 52(4), 2009). Bandwidth and peak are measured in the same run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llama_core.architectures import describe, layer_part
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.checkpoint import Checkpoint
from llama_core.choices import KvType

F32_BYTES = 4


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What one decoded token needs. `kv_bytes_per_position`: bytes read for each position in the context.
    `last_multiply_adds`: the part of `multiply_adds` that a prompt needs for its last token only."""

    weight_bytes: int
    kv_bytes_per_position: float
    multiply_adds: int
    last_multiply_adds: int

    def bytes_at(self, position: int) -> float:
        """Bytes read for the token at `position` (that many positions lie before it)."""
        return self.weight_bytes + self.kv_bytes_per_position * position

    def decode_ceiling(self, bytes_per_s: float, position: int) -> float:
        """Tokens per second that memory allows at `position`. (Arithmetic never limits one row on a CPU.)"""
        return bytes_per_s / self.bytes_at(position)

    def prefill_ceiling(self, multiply_adds_per_s: float) -> float:
        """Prompt tokens per second that arithmetic allows: with many rows the weights stay in the cache."""
        return multiply_adds_per_s / (self.multiply_adds - self.last_multiply_adds)


def token_cost(checkpoint: Checkpoint, weights: Literal["file", "float32"], kv: KvType = "f32") -> TokenCost:
    """The cost of a decoded token with the file's own blocks, or with every weight as float32.

    Each matrix and norm is read once, of experts those that a token takes; of the embedding table one row,
    unless it is the head as well. Of a
    prompt only the last token needs the head, and from what computes with the file's blocks (ours, llama.cpp)
    what the last layer does with its keys and values.
    """
    config = checkpoint.config
    weight_bytes = multiply_adds = 0.0
    taken = config.n_experts_used / config.n_experts if config.n_experts else 1.0
    for name, tensor in checkpoint.tensors.items():
        if name == "rope_freqs" or (name == "embed_tokens" and not config.tie_embeddings):
            continue
        part = taken if layer_part(name).startswith("experts.") else 1.0
        n_values = int(np.prod(tensor.shape))
        weight_bytes += part * (tensor.nbytes if weights == "file" else n_values * F32_BYTES)
        if len(tensor.shape) == 2:
            multiply_adds += part * n_values
    head_bytes = KV_KINDS[kv].head_bytes(config.head_dim)
    kv_bytes = head_bytes * sum(2 * one.kv_dim / config.head_dim for one in describe(config).attentions())
    last_multiply_adds = config.vocab_size * config.dim
    if weights == "file":
        feed_forwards = max(1, config.n_experts_used)
        last_multiply_adds += (2 * config.q_dim + 3 * feed_forwards * config.hidden_dim) * config.dim
    return TokenCost(round(weight_bytes), kv_bytes, round(multiply_adds), last_multiply_adds)


def float32_peak(repeats: int = 5) -> float:
    """Multiply-adds per second of a large float32 product, with the BLAS threads in force: the best run."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((512, 1024), dtype=np.float32)
    b = rng.standard_normal((1024, 1024), dtype=np.float32)
    out = np.empty((512, 1024), dtype=np.float32)
    best = float("inf")
    np.dot(a, b, out=out)
    for _ in range(repeats):
        started = time.perf_counter()
        np.dot(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return 512 * 1024 * 1024 / best
