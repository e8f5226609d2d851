"""The small functions of a layer: float32 in, float32 out, written into `out`.

A NumPy transformer loses its speed when one of these silently answers in float64, because the next product
then converts its weights. So hardly a function here makes an array of its own: the caller's buffers fix the
type, and scalars are Python floats, which NumPy 2 treats as weak.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def linear(x: F32, weight: F32, out: F32, bias: F32 | None = None) -> F32:
    """x @ weight.T + bias, a linear layer.

    x: (n, in), weight: (out_dim, in), bias: (out_dim,), out: (n, out_dim). The rows of `weight` are outputs,
    as in the files, whose blocks run along a row: each is dequantised where it stays, nothing is turned round
    at load, and a tied head is the embedding table itself, whose rows are looked up. Whether the transposed
    layout would be faster depends on the machine: for one token it took 1.3 times as long on one and was 1.4
    times as fast on another (`llama-chat lab run products`). What a pass takes is `scratch.feature_major`.
    """
    if out.T.flags.c_contiguous:
        np.matmul(weight, x.T, out=out.T)
    else:
        np.matmul(x, weight.T, out=out)
    return out if bias is None else np.add(out, bias, out=out)


def rms_norm(x: F32, weight: F32, eps: float, out: F32) -> F32:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, arXiv:1910.07467).

    x: (..., dim), weight: (dim,), out: (..., dim), which may be x itself.
    """
    squares = np.multiply(x, x, out=None if out is x else out)
    scales = np.add.reduce(squares, axis=-1, keepdims=True)  # (..., 1)
    scales *= 1.0 / x.shape[-1]
    scales += eps
    np.sqrt(scales, out=scales)
    np.divide(x, scales, out=out)
    return np.multiply(out, weight, out=out)


def softmax(scores: F32, sinks: F32 | None = None) -> F32:
    """A softmax over the last axis, in place.

    scores: (..., n); sinks: (..., 1), one more score of each row, whose share nobody needs, or None.
    """
    peaks = np.maximum.reduce(scores, axis=-1, keepdims=True)  # (..., 1)
    if sinks is not None:
        peaks = np.maximum(peaks, sinks)
    np.subtract(scores, peaks, out=scores)
    np.exp(scores, out=scores)
    sums = np.add.reduce(scores, axis=-1, keepdims=True)
    if sinks is not None:
        sums += np.exp(sinks - peaks)
    return np.divide(scores, sums, out=scores)


def soft_cap(x: F32, cap: float) -> F32:
    """cap * tanh(x / cap) of each number, whatever the shape, in place."""
    np.multiply(x, 1.0 / cap, out=x)
    np.tanh(x, out=x)
    return np.multiply(x, cap, out=x)
