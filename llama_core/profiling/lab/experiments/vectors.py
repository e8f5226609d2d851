"""The functions between the products in NumPy, for comparison with their loops (`loops.py`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def softmax(x: F32) -> F32:
    """x: (rows, n); over the last axis."""
    raised: F32 = np.exp(x - x.max(axis=-1, keepdims=True))
    result: F32 = raised / raised.sum(axis=-1, keepdims=True)
    return result


def silu(x: F32) -> F32:
    """x / (1 + exp(-x))"""
    raised: F32 = np.exp(-x)
    result: F32 = x / (raised + np.float32(1))
    return result


def rope(x: F32, cos: F32, sin: F32) -> F32:
    """x: (n, heads, head_dim), pairs in halves; cos, sin: (n, head_dim / 2)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)


def norm(x: F32, weight: F32) -> F32:
    """RMSNorm; x: (n, dim), weight: (dim,)."""
    mean_square: F32 = np.vecdot(x, x)[:, None] / np.float32(x.shape[-1])
    result: F32 = x / np.sqrt(mean_square + np.float32(1e-5)) * weight
    return result


def attention(q: F32, keys: F32, values: F32) -> F32:
    """q: (rows, head_dim), scaled; keys, values: (kv_len, head_dim)."""
    result: F32 = softmax(q @ keys.T) @ values
    return result


def product(x: F32, weight: F32) -> F32:
    """x: (n, in), weight: (out_dim, in)."""
    result: F32 = x @ weight.T
    return result
