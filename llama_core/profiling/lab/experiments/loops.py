"""The functions of `vectors.py` as plain loops: slow in Python, made for a compiler.

Shapes as there. Numba compiles them with fast-math, so that sums may be reordered and vectorised.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
ONE = np.float32(1)
EPS = np.float32(1e-5)


def softmax(x: F32) -> F32:
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


def silu(x: F32) -> F32:
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[row, i] = x[row, i] / (ONE + math.exp(-x[row, i]))
    return out


def rope(x: F32, cos: F32, sin: F32) -> F32:
    out = np.empty_like(x)
    half = x.shape[2] // 2
    for n in range(x.shape[0]):
        for head in range(x.shape[1]):
            for j in range(half):
                first, second = x[n, head, j], x[n, head, j + half]
                out[n, head, j] = first * cos[n, j] - second * sin[n, j]
                out[n, head, j + half] = second * cos[n, j] + first * sin[n, j]
    return out


def norm(x: F32, weight: F32) -> F32:
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


def attention(q: F32, keys: F32, values: F32) -> F32:
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


def product(x: F32, weight: F32) -> F32:
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    for n in range(x.shape[0]):
        for row in range(weight.shape[0]):
            total = np.float32(0)
            for i in range(x.shape[1]):
                total += x[n, i] * weight[row, i]
            out[n, row] = total
    return out
