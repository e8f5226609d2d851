"""Layers without attention: a few positions of a text at once, from one state to the next.

The memory of a head is a matrix S of (state_dim, head_dim). Each position fades it, writes one row and reads:

    S_t = exp(g_t) S_(t-1) + outer(k_t, u_t)        y_t = q_t S_t           g_t: at most 0

One position after another that would be a small product each. Written out from the state S before CHUNK
positions, with G_t = g_1 + ... + g_t, it is three products for all of them (the form of the papers that
`architectures.recurrent` names):

    y_t = exp(G_t) q_t S + sum over j <= t of exp(G_t - G_j) (q_t . k_j) u_j

This is attention within the chunk, with fading instead of a softmax, and a look into the memory for all
before. The delta rule writes u_t = beta_t (v_t - k_t exp(g_t) S_(t-1)), what the memory does not know yet.
Written out, each u_t needs the u_j before it: a triangular system, solved for a chunk at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.recurrent import DeltaNet, Mamba2, Recurrent, ShortConv
from llama_core.backends.numpy.activations import sigmoid, silu, softplus
from llama_core.backends.numpy.ops import rms_norm
from llama_core.backends.numpy.weights import RecurrentWeights
from llama_core.backends.states import LayerState

F32 = NDArray[np.float32]

# Positions at once. Longer ones have fewer products and more to multiply in each.
CHUNK = 64
# Keys and queries of length 1 (delta rule): added to the square of the length.
LENGTH_EPS = 1e-6


def recur(
    spec: Recurrent,
    weights: RecurrentWeights,
    eps: float,
    projected: F32,
    before: LayerState,
    after: LayerState,
    out: F32,
) -> None:
    """One sequence's n new positions in one layer.

    projected: (n, in_dim), what in_proj gave; before, after: the state before these positions, which is read,
    and behind them, which is written; out: (n, out_dim), which is written.
    """
    after.memory[...] = before.memory
    if isinstance(spec, ShortConv):
        _short_conv(weights, projected, before, after, out)
    elif isinstance(spec, DeltaNet):
        _delta_net(spec, weights, eps, projected, before, after, out)
    else:
        _mamba2(spec, weights, eps, projected, before, after, out)


def _short_conv(
    weights: RecurrentWeights,
    projected: F32,
    before: LayerState,
    after: LayerState,
    out: F32,
) -> None:
    b, c, x = np.split(projected, 3, axis=1)  # (n, dim) each
    np.multiply(c, convolve(b * x, weights, before.conv, after.conv), out=out)


def _delta_net(
    spec: DeltaNet,
    weights: RecurrentWeights,
    eps: float,
    projected: F32,
    before: LayerState,
    after: LayerState,
    out: F32,
) -> None:
    assert weights.dt_bias is not None
    assert weights.decay is not None
    assert weights.state_norm is not None
    n, heads, groups, per_group = len(projected), spec.n_heads, spec.n_groups, spec.per_group
    ends = np.cumsum([spec.conv_dim, spec.out_dim, heads])
    qkv, z, b, a = np.split(projected, ends, axis=1)
    qkv = silu(convolve(qkv, weights, before.conv, after.conv))
    q, k, v = np.split(qkv, (spec.key_dim, 2 * spec.key_dim), axis=1)
    # Head h of v takes q and k number h % groups, so that the axes of v's heads are (per_group, groups).
    q, k = (_of_length_1(x.reshape(n, 1, groups, spec.state_dim)).transpose(1, 2, 0, 3) for x in (q, k))
    q *= spec.state_dim**-0.5  # (1, groups, n, state_dim)
    v = v.reshape(n, per_group, groups, spec.head_dim).transpose(1, 2, 0, 3)
    beta = sigmoid(b).reshape(n, per_group, groups).transpose(1, 2, 0)[..., None]
    fades = weights.decay * softplus(a + weights.dt_bias)  # (n, heads), below 0
    fades = fades.reshape(n, per_group, groups).transpose(1, 2, 0)
    memory = after.memory.reshape(per_group, groups, spec.state_dim, spec.head_dim)
    y = np.empty((per_group, groups, n, spec.head_dim), dtype=np.float32)
    for at in _chunks(n):
        total, between = fading(fades[..., at])
        known = np.exp(total)[..., None] * (k[:, :, at] @ memory)
        u = beta[:, :, at] * (v[:, :, at] - known)
        length = u.shape[-2]
        if length > 1:
            system = np.tril(beta[:, :, at] * between * (k[:, :, at] @ k[:, :, at].mT), -1)
            u = np.linalg.solve(system + np.eye(length, dtype=np.float32), u)
        y[:, :, at] = read_and_write(memory, q[:, :, at], k[:, :, at], u, total, between)
    heads_out = out.reshape(n, heads, spec.head_dim, copy=False)
    rms_norm(y.transpose(2, 0, 1, 3).reshape(n, heads, spec.head_dim), weights.state_norm, eps, out=heads_out)
    np.multiply(out, silu(z), out=out)


def _mamba2(
    spec: Mamba2,
    weights: RecurrentWeights,
    eps: float,
    projected: F32,
    before: LayerState,
    after: LayerState,
    out: F32,
) -> None:
    assert weights.dt_bias is not None
    assert weights.decay is not None
    assert weights.skip is not None
    assert weights.state_norm is not None
    n, heads, groups, per_group = len(projected), spec.n_heads, spec.n_groups, spec.per_group
    z, xkq, dt = np.split(projected, (spec.out_dim, spec.out_dim + spec.conv_dim), axis=1)
    xkq = silu(convolve(xkq, weights, before.conv, after.conv))
    x, k, q = np.split(xkq, (spec.out_dim, spec.out_dim + spec.key_dim), axis=1)
    dt = softplus(dt + weights.dt_bias)  # (n, heads)
    x = x.reshape(n, heads, spec.head_dim)
    # Runs of heads share a group: the axes of heads are (groups, per_group).
    u = (x * dt[..., None]).reshape(n, groups, per_group, spec.head_dim).transpose(1, 2, 0, 3)
    fades = (weights.decay * dt).reshape(n, groups, per_group).transpose(1, 2, 0)
    q, k = (part.reshape(n, groups, 1, spec.state_dim).transpose(1, 2, 0, 3) for part in (q, k))
    memory = after.memory.reshape(groups, per_group, spec.state_dim, spec.head_dim)
    y = np.empty(u.shape, dtype=np.float32)
    for at in _chunks(n):
        total, between = fading(fades[..., at])
        y[:, :, at] = read_and_write(memory, q[:, :, at], k[:, :, at], u[:, :, at], total, between)
    rows = y.transpose(2, 0, 1, 3).reshape(n, heads, spec.head_dim) + weights.skip[:, None] * x
    np.multiply(rows.reshape(n, spec.out_dim), silu(z), out=out)
    rms_norm(out, weights.state_norm, eps, out=out)


def fading(fades: F32) -> tuple[F32, F32]:
    """G and exp(G_t - G_j) of a chunk, the latter 0 where j is behind t.

    fades: (..., length), the g of each position. Returns (..., length) and (..., length, length).
    """
    total = np.cumsum(fades, axis=-1)
    between = total[..., :, None] - total[..., None, :]
    between[..., _behind(total.shape[-1])] = -np.inf
    return total, np.exp(between, out=between)


@lru_cache(maxsize=CHUNK)
def _behind(length: int) -> NDArray[np.bool_]:
    """(length, length): whether column j is behind row t."""
    return np.triu(np.ones((length, length), dtype=np.bool_), 1)


def read_and_write(memory: F32, q: F32, k: F32, u: F32, total: F32, between: F32) -> F32:
    """What a chunk's positions read, (..., length, head_dim); `memory` is then the one behind them.

    memory: (..., state_dim, head_dim), changed in place; q, k: (..., length, state_dim); u: (..., length,
    head_dim); total, between: as `fading` gives them.
    """
    y: F32 = (between * (q @ k.mT)) @ u
    y += np.exp(total)[..., None] * (q @ memory)
    last = total[..., -1:]
    memory *= np.exp(last)[..., None]
    memory += (k * np.exp(last - total)[..., None]).mT @ u
    return y


def convolve(x: F32, weights: RecurrentWeights, before: F32, after: F32) -> F32:
    """A causal convolution of each channel with its own filter, (n, conv_dim).

    x: (n, conv_dim); before, after: (kernel - 1, conv_dim), the last inputs before these and, written, behind
    them.
    """
    n, kernel = len(x), weights.conv.shape[1]
    # A channel's inputs lie in one run of memory, as products of several tokens do (`scratch.feature_major`).
    inputs = np.concatenate((before.T, x.T), axis=1)  # (conv_dim, kernel - 1 + n)
    after[...] = inputs[:, n:].T
    y: F32 = inputs[:, :n] * weights.conv[:, :1]
    for tap in range(1, kernel):
        y += inputs[:, tap : tap + n] * weights.conv[:, tap : tap + 1]
    if weights.conv_bias is not None:
        y += weights.conv_bias[:, None]
    return y.T


def _of_length_1(x: F32) -> F32:
    """Each vector divided by its length. x: (..., dim)."""
    squares = np.add.reduce(x * x, axis=-1, keepdims=True)
    return np.divide(x, np.sqrt(squares + LENGTH_EPS), out=np.empty_like(x))


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))
