"""From the rows of the fused product to heads: normed, turned, and put where attention reads them.

    qkv, one row a position          [ q0 q1 q2 q3 q4 q5 | k0 k1 | v0 v1 ]     6 query heads, 2 of keys

    queries  (n_kv_heads, n, group, head_dim)     the heads that share keys side by side:
                                                  key head 0: t0: q0 q1 q2   t1: q0 q1 q2  ...
                                                  key head 1: t0: q3 q4 q5   t1: q3 q4 q5  ...
    keys, values                                  straight into the cache, behind its end

RoPE has to write its result somewhere, so that the move costs nothing: its last addition goes there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.ops import rms_norm
from llama_core.backends.numpy.rope import RopeTable, rotate
from llama_core.config import ModelConfig

F32 = NDArray[np.float32]


class HeadScratch:
    """Flat buffers for up to `max_rows` positions: the queries, and the two terms of RoPE."""

    def __init__(self, config: ModelConfig, max_rows: int) -> None:
        rotated = (config.n_heads + config.n_kv_heads) * config.n_rotated
        self.queries: F32 = np.empty(max_rows * config.q_dim, dtype=np.float32)
        self.turned: F32 = np.empty(max_rows * rotated, dtype=np.float32)
        self.crossed: F32 = np.empty(max_rows * rotated, dtype=np.float32)

    @property
    def nbytes(self) -> int:
        return self.queries.nbytes + self.turned.nbytes + self.crossed.nbytes


class NewHeads:
    """The heads of one sequence's n new positions: views, made once for all layers of a pass.

    queries: (n_kv_heads, n, group, head_dim), scaled by 1 / sqrt(head_dim), valid after `place`.
    """

    def __init__(
        self, config: ModelConfig, rope: RopeTable, cache: KVCache, qkv: F32, scratch: HeadScratch
    ) -> None:
        n, start = len(qkv), cache.length
        heads, kv_heads, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self._norm_eps = config.norm_eps
        self._scale = head_dim**-0.5
        # In the memory order of qkv (ops.feature_major), so that the products of RoPE run straight through.
        self._cos = np.asarray(rope.cos[start : start + n], order="F")
        self._sin = np.asarray(rope.sin[start : start + n], order="F")

        split = qkv.reshape(n, heads + 2 * kv_heads, head_dim, copy=False)
        self._q = split[:, :heads]
        self._k = split[:, heads : heads + kv_heads]
        self._v = split[:, heads + kv_heads :]
        # Where they go, as (..., n, heads, head_dim); the cache has all layers in front.
        self._keys = cache.keys[:, :, start : start + n].swapaxes(1, 2)
        self._values = cache.values[:, :, start : start + n].swapaxes(1, 2)
        group = heads // kv_heads
        self.queries = scratch.queries[: n * config.q_dim].reshape(kv_heads, n, group, head_dim)
        self._view_halves(config.n_rotated, split[:, : heads + kv_heads], scratch)

    def _view_halves(self, rotated: int, qk: F32, scratch: HeadScratch) -> None:
        """What RoPE reads and writes, with a head's rotated dimensions as (2, half)."""
        n, heads = self._q.shape[:2]
        kv_heads, _, group, _ = self.queries.shape
        shape = (qk.shape[1], 2, rotated // 2, n)
        size = math.prod(shape)
        self._qk_halves = _halves(qk, rotated)
        self._turned = np.moveaxis(scratch.turned[:size].reshape(shape), -1, 0)
        self._crossed = np.moveaxis(scratch.crossed[:size].reshape(shape), -1, 0)
        grouped = (n, kv_heads, group, 2, rotated // 2)
        queries = self.queries.swapaxes(0, 1)
        self._q_sum = (
            self._turned[:, :heads].reshape(grouped, copy=False),
            self._crossed[:, :heads].reshape(grouped, copy=False),
            _halves(queries, rotated),
        )
        self._k_sum = (self._turned[:, heads:], self._crossed[:, heads:], _halves(self._keys, rotated))
        self._unturned: tuple[F32, F32, F32, F32] | None = None
        if rotated < queries.shape[-1]:
            q_by_group = self._q.reshape(queries.shape, copy=False)
            pairs = (queries, q_by_group, self._keys, self._k)
            to_q, from_q, to_k, from_k = (array[..., rotated:] for array in pairs)
            self._unturned = (to_q, from_q, to_k, from_k)

    def place(self, layer: int, q_norm: F32 | None, k_norm: F32 | None) -> None:
        """Norm and turn what qkv holds now; fill `queries` and the cache's new positions of one layer."""
        if q_norm is not None and k_norm is not None:
            rms_norm(self._q, q_norm, self._norm_eps, out=self._q)
            rms_norm(self._k, k_norm, self._norm_eps, out=self._k)
        rotate(self._qk_halves, self._cos, self._sin, self._turned, self._crossed)
        turned, crossed, queries = self._q_sum
        np.add(turned, crossed, out=queries)
        turned, crossed, keys = self._k_sum
        np.add(turned, crossed, out=keys[layer])
        if self._unturned is not None:
            to_q, from_q, to_k, from_k = self._unturned
            to_q[...] = from_q
            to_k[layer] = from_k
        np.multiply(self.queries, self._scale, out=self.queries)
        self._values[layer] = self._v


def _halves(x: F32, rotated: int) -> F32:
    """The rotated dimensions of x's last axis as (2, rotated / 2): a view."""
    return x[..., :rotated].reshape(*x.shape[:-1], 2, rotated // 2, copy=False)
