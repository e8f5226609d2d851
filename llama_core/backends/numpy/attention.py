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
of a tile in the core's cache and skips what the mask would hide. Without, attention takes 1.4 times as long,
and a prefill of 200 tokens of stories15M's shape 5 % longer. And the product of one token with the keys runs
over BLOCK positions at a time: OpenBLAS has a fast path for small products, which a long row of scores would
miss. Without, a decode step of the default model takes 10 % longer behind 1,024 tokens, 30 % behind 4,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Attention
from llama_core.backends.numpy.activations import sigmoid
from llama_core.backends.numpy.kv_cache import BLOCK
from llama_core.backends.numpy.ops import rms_norm, soft_cap, softmax
from llama_core.backends.numpy.rope import rotate
from llama_core.backends.numpy.scratch import Scratch
from llama_core.backends.numpy.weights import AttentionWeights

F32 = NDArray[np.float32]

TILE = 32


def norm_and_rotate(
    spec: Attention, weights: AttentionWeights, eps: float, qkv: F32, angles: tuple[F32, F32] | None
) -> None:
    """Make queries and keys ready, in place: their norms, where the layer has them, and RoPE.

    qkv: (n, q_dim + 2 kv_dim) of n positions, or (n, 2 q_dim + 2 kv_dim) where the heads have gates; angles:
    cos and sin of these, or None.
    """
    q, _, k, _ = _split(spec, qkv)
    if spec.qk_norm and not spec.norm_after_rope:
        _norm(spec, weights, eps, qkv, q, k)
    if angles is not None:
        rotate(q, *angles)
        rotate(k, *angles)
    if spec.qk_norm and spec.norm_after_rope:
        _norm(spec, weights, eps, qkv, q, k)


def _split(spec: Attention, qkv: F32) -> tuple[F32, F32 | None, F32, F32]:
    """q, the gates of its heads or None, k, v: views, (n, heads, head_dim) each."""
    n_kv, heads = spec.n_kv_heads, qkv.reshape(len(qkv), -1, spec.head_dim, copy=False)
    q, k, v = heads[:, : -2 * n_kv], heads[:, -2 * n_kv : -n_kv], heads[:, -n_kv:]
    return (q[:, 0::2], q[:, 1::2], k, v) if spec.gated else (q, None, k, v)


def attend(
    spec: Attention,
    sinks: F32 | None,
    qkv: F32,
    keys: F32,
    values: F32,
    start: int,
    out: F32,
    scratch: Scratch,
) -> None:
    """One sequence's n new positions, start .. start + n, in one layer.

    qkv: as for `norm_and_rotate`; its keys and values are put into the cache; keys, values: (n_kv_heads,
    positions, head_dim) of the layer's cache; sinks: (n_heads,) or None; out: (n, q_dim), which is written.
    scratch: for the scores, which grow with the context.
    """
    n, heads, kv_heads, head_dim = len(qkv), spec.n_heads, spec.n_kv_heads, spec.head_dim
    q, gate, k, v = _split(spec, qkv)
    keys[:, start : start + n] = k.swapaxes(0, 1)  # (n_kv_heads, n, head_dim)
    values[:, start : start + n] = v.swapaxes(0, 1)
    grouped = (n, kv_heads, heads // kv_heads, head_dim)
    q = q.reshape(grouped, copy=False).swapaxes(0, 1)  # (n_kv_heads, n, group, head_dim)
    to = out.reshape(grouped, copy=False).swapaxes(0, 1)
    for first in range(0, n, TILE):
        stop = min(first + TILE, n)
        queries = np.multiply(q[:, first:stop], _factors(spec, start + first, start + stop), order="C")
        _tile(spec, queries, keys, values, start + stop, sinks, to[:, first:stop], scratch)
    if gate is not None:
        mixed = out.reshape(n, heads, head_dim, copy=False)
        np.multiply(mixed, sigmoid(gate), out=mixed)


def _factors(spec: Attention, start: int, stop: int) -> F32 | float:
    """What queries of positions start..stop are multiplied by: a number, or (stop - start, 1, 1)."""
    if spec.temperature is None:
        return spec.scale
    turns = np.arange(start, stop) // spec.temperature.length
    factors: F32 = (spec.scale * (1.0 + spec.temperature.beta * np.log1p(turns))).astype(np.float32)
    return factors[:, None, None]


def _norm(spec: Attention, weights: AttentionWeights, eps: float, qkv: F32, q: F32, k: F32) -> None:
    """RMS norms of q and k in place, over each head or over all heads together."""
    assert weights.q_norm is not None
    assert weights.k_norm is not None
    if spec.qk_norm == "width":
        q, k = qkv[:, : spec.q_dim], qkv[:, spec.q_dim : spec.q_dim + spec.kv_dim]
    rms_norm(q, weights.q_norm, eps, out=q)
    rms_norm(k, weights.k_norm, eps, out=k)


def _tile(
    spec: Attention,
    queries: F32,
    keys: F32,
    values: F32,
    end: int,
    sinks: F32 | None,
    out: F32,
    scratch: Scratch,
) -> None:
    """The last positions before `end`. queries, out: (n_kv_heads, length, group, head_dim)."""
    kv_heads, length, group, head_dim = queries.shape
    rows = length * group
    begin = max(0, end - length + 1 - spec.window) if spec.window else 0
    block = BLOCK if length == 1 else end - begin
    n_blocks = -(-(end - begin) // block)
    padded = n_blocks * block

    runs = keys[:, begin : begin + padded].reshape(kv_heads, n_blocks, block, head_dim, copy=False)
    scores = scratch("scores", kv_heads, length, group, padded)
    in_blocks = scores.reshape(kv_heads, rows, n_blocks, block).swapaxes(1, 2)
    np.matmul(queries.reshape(kv_heads, 1, rows, head_dim), runs.mT, out=in_blocks)
    kv_len = end - begin
    scores = scores[..., :kv_len]  # (n_kv_heads, length, group, kv_len)
    if spec.softcap:
        soft_cap(scores, spec.softcap)
    mask = _mask(length, kv_len, spec.window)
    if mask is not None:
        masked = scores[..., -mask.shape[-1] :]
        np.add(masked, mask, out=masked)
    softmax(scores, None if sinks is None else sinks.reshape(kv_heads, 1, group, 1))
    mixed = np.matmul(scores.reshape(kv_heads, rows, kv_len, copy=False), values[:, begin:end])
    np.copyto(out, mixed.reshape(kv_heads, length, group, head_dim))


def _mask(length: int, kv_len: int, window: int) -> F32 | None:
    """What is added to the scores of `length` new positions, the last of kv_len: 0, or -inf where hidden.

    Returns (length, 1, columns) for the last `columns` of kv_len, or None where nothing is hidden. A window
    of w lets position p see p - w + 1 .. p (Mistral, arXiv:2310.06825).
    """
    by_window = window > 0 and kv_len > window
    if length == 1 and not by_window:
        return None
    columns = kv_len if by_window else length
    row = np.arange(kv_len - length, kv_len)[:, None]
    column = np.arange(kv_len - columns, kv_len)
    hidden = (column > row) | (column <= row - window if by_window else False)
    mask = np.zeros((length, 1, columns), dtype=np.float32)
    mask[:, 0][hidden] = -np.inf
    return mask
