"""The functions between the products, in NumPy, and each as a plain loop, which is for a compiler.

Numba compiles the loops with fast-math, so that sums may be reordered and vectorised.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def softmax(x: F32) -> F32:
    """x: (rows, n); over the last axis."""
    raised: F32 = np.exp(x - x.max(axis=-1, keepdims=True))
    result: F32 = raised / raised.sum(axis=-1, keepdims=True)
    return result


def silu(x: F32) -> F32:
    """x / (1 + exp(-x)); x: any shape."""
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


ONE = np.float32(1)
EPS = np.float32(1e-5)


def softmax_loop(x: F32) -> F32:
    """x: (rows, n) float32; over the last axis, row by row."""
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        peak = x[row, 0]
        for i in range(x.shape[1]):
            peak = max(peak, x[row, i])
        total = np.float32(0)
        for i in range(x.shape[1]):
            out[row, i] = math.exp(x[row, i] - peak)
            total += out[row, i]
        for i in range(x.shape[1]):
            out[row, i] /= total
    return out


def silu_loop(x: F32) -> F32:
    """x: (rows, n) float32."""
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[row, i] = x[row, i] / (ONE + math.exp(-x[row, i]))
    return out


def rope_loop(x: F32, cos: F32, sin: F32) -> F32:
    """x: (n, heads, head_dim), pairs in halves; cos, sin: (n, head_dim / 2)."""
    out = np.empty_like(x)
    half = x.shape[2] // 2
    for n in range(x.shape[0]):
        for head in range(x.shape[1]):
            for j in range(half):
                first, second = x[n, head, j], x[n, head, j + half]
                out[n, head, j] = first * cos[n, j] - second * sin[n, j]
                out[n, head, j + half] = second * cos[n, j] + first * sin[n, j]
    return out


def norm_loop(x: F32, weight: F32) -> F32:
    """x: (n, dim), weight: (dim,)."""
    out = np.empty_like(x)
    dim = np.float32(x.shape[1])
    for row in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[row, i] * x[row, i]
        scale = ONE / np.float32(math.sqrt(total / dim + EPS))
        for i in range(x.shape[1]):
            out[row, i] = x[row, i] * scale * weight[i]
    return out


def attention_loop(q: F32, keys: F32, values: F32) -> F32:
    """q: (rows, head_dim), scaled; keys, values: (kv_len, head_dim)."""
    n_keys, head_dim = keys.shape
    out = np.zeros((q.shape[0], head_dim), np.float32)
    scores = np.empty(n_keys, np.float32)
    for row in range(q.shape[0]):
        peak = np.float32(-np.inf)
        for i in range(n_keys):
            dot = np.float32(0)
            for d in range(head_dim):
                dot += q[row, d] * keys[i, d]
            scores[i] = dot
            peak = max(peak, dot)
        total = np.float32(0)
        for i in range(n_keys):
            scores[i] = math.exp(scores[i] - peak)
            total += scores[i]
        for i in range(n_keys):
            weight = scores[i] / total
            for d in range(head_dim):
                out[row, d] += weight * values[i, d]
    return out


def product_loop(x: F32, weight: F32) -> F32:
    """x: (n, in), weight: (out_dim, in)."""
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    for n in range(x.shape[0]):
        for row in range(weight.shape[0]):
            total = np.float32(0)
            for i in range(x.shape[1]):
                total += x[n, i] * weight[row, i]
            out[n, row] = total
    return out
