"""Causal grouped-query attention over the cache, without a copy of a key or a value.

Grouped queries (Ainslie et al., arXiv:2305.13245): `group` = n_heads / n_kv_heads query heads share one head
of keys and values. The textbook repeats the keys `group` times; here the queries that share a head are
stacked as the rows of one matrix instead, and the sharing costs nothing:

      n_heads = 6, n_kv_heads = 2, group = 3, two new positions t0 and t1

      key head 0 serves query heads 0 1 2          key head 1 serves query heads 3 4 5

      queries (n_kv_heads, rows, head_dim)          keys (n_kv_heads, kv_len, head_dim)
      [ t0 head 0 ]                                 [ position 0 ]
      [ t0 head 1 ]   rows = positions * group      [ position 1 ]
      [ t0 head 2 ]                                 [    ...     ]
      [ t1 head 0 ]
      [ t1 head 1 ]        scores = queries @ keys.T      (n_kv_heads, rows, kv_len)
      [ t1 head 2 ]        mixed  = softmax(scores) @ values

A new position sees itself and what came before, so that only the last square of the scores needs a mask:

                        kv: 0 1 2 3 4 5        (4 positions cached, t0 and t1 at 4 and 5)
             t0, any head   . . . . . x
             t1, any head   . . . . . .

Two choices come from measurement. Long prompts are taken TILE positions at a time, which keeps the scores
of a tile in the core's cache and skips what the mask would hide. And the product with the keys runs over
runs of BLOCK positions: OpenBLAS has a fast path for small products, which a long row of scores would miss
(512 positions, 3 rows: 9 us against 53).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.heads import HeadScratch, NewHeads
from llama_core.backends.numpy.kv_cache import BLOCK, KVCache
from llama_core.backends.numpy.ops import exp_shifted
from llama_core.backends.numpy.rope import RopeTable
from llama_core.config import ModelConfig

F32 = NDArray[np.float32]

TILE = 32


class AttentionScratch:
    """Buffers for one pass of up to `max_rows` rows; the scores of a tile grow with the context."""

    def __init__(self, config: ModelConfig, max_rows: int) -> None:
        self.heads = HeadScratch(config, max_rows)
        self._tile_rows = config.n_heads * min(TILE, max_rows)
        self.mixed: F32 = np.empty(self._tile_rows * config.head_dim, dtype=np.float32)
        self.sums: F32 = np.empty(self._tile_rows, dtype=np.float32)
        self.scores: F32 = np.empty(0, dtype=np.float32)

    def grow(self, positions: int) -> None:
        """Make room for the scores over `positions` cached positions."""
        needed = self._tile_rows * positions
        if needed > self.scores.size:
            self.scores = np.empty(needed, dtype=np.float32)

    @property
    def nbytes(self) -> int:
        return self.heads.nbytes + self.scores.nbytes + self.sums.nbytes + self.mixed.nbytes


@dataclass(slots=True, eq=False)
class _Tile:
    """The views that TILE positions of a pass need; keys_t and values have all layers in front.

    queries: (n_kv_heads, 1, rows, head_dim); keys_t: (n_layers, n_kv_heads, blocks, head_dim, BLOCK);
    blocks: the scores as the product writes them, (n_kv_heads, blocks, rows, BLOCK); scores: the same memory
    as (n_kv_heads, rows, kv_len); masked: the part of it that `mask` is added to.
    """

    queries: F32
    keys_t: F32
    values: F32
    blocks: F32
    scores: F32
    sums: F32
    mixed: F32
    mixed_heads: F32
    sums_heads: F32
    out: F32
    masked: F32 | None
    mask: F32 | None

    def run(self, layer: int) -> None:
        np.matmul(self.queries, self.keys_t[layer], out=self.blocks)
        if self.mask is not None and self.masked is not None:
            np.add(self.masked, self.mask, out=self.masked)
        exp_shifted(self.scores, self.sums)
        np.matmul(self.scores, self.values[layer], out=self.mixed)
        np.divide(self.mixed_heads, self.sums_heads, out=self.out)


class SequencePass:
    """One sequence's n new positions on their way through all layers: every view is made here, once.

    qkv: (n, q_dim + 2 kv_dim), the rows that the fused product will write; out: (n, q_dim), where attention
    leaves its result. For each layer: fill qkv, call `run`, read out.
    """

    def __init__(
        self,
        config: ModelConfig,
        rope: RopeTable,
        cache: KVCache,
        qkv: F32,
        out: F32,
        scratch: AttentionScratch,
    ) -> None:
        n, group = len(qkv), config.n_heads // config.n_kv_heads
        self._heads = NewHeads(config, rope, cache, qkv, scratch.heads)
        out_heads = out.reshape(n, config.n_kv_heads, group, config.head_dim, copy=False).swapaxes(0, 1)
        self._tiles = [
            self._tile(config, cache, out_heads, scratch, first, min(first + TILE, n))
            for first in range(0, n, TILE)
        ]

    def run(self, layer: int, q_norm: F32 | None, k_norm: F32 | None) -> None:
        """Attention of one layer: qkv in, `out` written, new keys and values put behind the cache's end."""
        self._heads.place(layer, q_norm, k_norm)
        for tile in self._tiles:
            tile.run(layer)

    def _tile(
        self, config: ModelConfig, cache: KVCache, out: F32, scratch: AttentionScratch, first: int, stop: int
    ) -> _Tile:
        """Views for the new positions first..stop. out: (n_kv_heads, n, group, head_dim)."""
        kv_heads, head_dim = config.n_kv_heads, config.head_dim
        group, length = config.n_heads // kv_heads, stop - first
        rows = length * group
        end = cache.length + stop
        begin = max(0, cache.length + first + 1 - config.sliding_window) if config.sliding_window else 0
        # One row is a plain vector product, for which the whole run is best taken at once.
        block = BLOCK if rows > 1 else end - begin
        n_blocks = -(-(end - begin) // block)
        padded = n_blocks * block

        keys = cache.keys[:, :, begin : begin + padded]
        keys = keys.reshape(config.n_layers, kv_heads, n_blocks, block, head_dim, copy=False)
        scores = scratch.scores[: kv_heads * rows * padded].reshape(kv_heads, rows, padded)
        sums = scratch.sums[: kv_heads * rows].reshape(kv_heads, rows, 1)
        mixed = scratch.mixed[: kv_heads * rows * head_dim].reshape(kv_heads, rows, head_dim)
        mask = _mask(length, end - begin, config.sliding_window)
        by_position = scores.reshape(kv_heads, length, group, padded)
        return _Tile(
            queries=self._heads.queries[:, first:stop].reshape(kv_heads, 1, rows, head_dim, copy=False),
            keys_t=keys.mT,
            values=cache.values[:, :, begin:end],
            blocks=scores.reshape(kv_heads, rows, n_blocks, block).swapaxes(1, 2),
            scores=scores[..., : end - begin],
            sums=sums,
            mixed=mixed,
            mixed_heads=mixed.reshape(kv_heads, length, group, head_dim),
            sums_heads=sums.reshape(kv_heads, length, group, 1),
            out=out[:, first:stop],
            masked=None if mask is None else by_position[..., end - begin - mask.shape[-1] : end - begin],
            mask=mask,
        )


def _mask(length: int, kv_len: int, window: int) -> F32 | None:
    """What is added to the scores of `length` new positions, the last of kv_len: 0, or -inf where hidden.

    Returns (length, 1, columns) for the last `columns` of kv_len, or None where nothing is hidden. A window
    of w lets position p see p - w + 1 .. p (Mistral, arXiv:2310.06825).
    """
    hidden_by_window = window > 0 and kv_len > window
    if length == 1 and not hidden_by_window:
        return None
    columns = kv_len if hidden_by_window else length
    row = np.arange(kv_len - length, kv_len)[:, None]
    column = np.arange(kv_len - columns, kv_len)
    hidden = column > row
    if hidden_by_window:
        hidden |= column <= row - window
    mask = np.zeros((length, 1, columns), dtype=np.float32)
    mask[:, 0][hidden] = -np.inf
    return mask
