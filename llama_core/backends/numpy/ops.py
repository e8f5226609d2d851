"""The small functions between the matrix products: float32 in, float32 out, written into `out`.

A NumPy transformer loses its speed when one of these silently answers in float64, because the next product
then converts its weights. So hardly a function here makes an array of its own: the caller's buffers fix the
type, and scalars are Python floats, which NumPy 2 treats as weak.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Activation

F32 = NDArray[np.float32]


class Scratch:
    """Float32 buffers by name that only grow: after the first pass none of a model's size is allocated.

    What a name held is lost when it is asked for again.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, F32] = {}

    @property
    def nbytes(self) -> int:
        """Memory of all buffers, as large as they have grown."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def flat(self, name: str, size: int) -> F32:
        """The buffer's first values, (size,) float32, uninitialised where it is new."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype=np.float32)
        return buffer[:size]

    def __call__(self, name: str, *shape: int) -> F32:
        """The buffer as an array in C order."""
        return self.flat(name, math.prod(shape)).reshape(shape)

    def rows(self, name: str, n: int, dim: int) -> F32:
        """The buffer as (n, dim), see `feature_major`."""
        return feature_major(self.flat(name, n * dim), n, dim)


def feature_major(buffer: F32, n: int, dim: int) -> F32:
    """The front of a flat buffer as (n, dim) whose columns, not rows, lie in one run of memory."""
    return buffer[: n * dim].reshape(dim, n).T


def linear(x: F32, weight: F32, out: F32, bias: F32 | None = None) -> F32:
    """x @ weight.T + bias, a linear layer.

    x: (n, in), weight: (out_dim, in), bias: (out_dim,), out: (n, out_dim). The rows of `weight` are outputs,
    as in the files, whose blocks run along a row: each is dequantised where it stays, nothing is turned round
    at load, and a tied head is the embedding table itself, whose rows are looked up. Whether the transposed
    layout would be faster depends on the machine: for one token it took 1.3 times as long on one and was 1.4
    times as fast on another (`llama-chat lab run products`).

    It is formed as out.T = weight @ x.T where out.T is in C order (see `feature_major`). OpenBLAS repacks the
    whole of its second matrix at every call, which for few tokens costs more than the product, so that x
    takes that place. With row-major buffers a prefill takes longer: 256 tokens of the default model 7 to
    10 %, 200 of stories15M's shape 13 %, and a pass of 2 tokens 46 ms instead of 32.
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
    scales = np.add.reduce(squares, axis=-1, keepdims=True)
    scales *= 1.0 / x.shape[-1]
    scales += eps
    np.sqrt(scales, out=scales)
    np.divide(x, scales, out=out)
    return np.multiply(out, weight, out=out)


def swiglu(gate_up: F32, out: F32) -> F32:
    """silu(gate) * up with silu(z) = z / (1 + exp(-z)) (Shazeer, arXiv:2002.05202).

    gate_up: (..., 2 * hidden_dim), the gate in the first half; out: (..., hidden_dim). exp overflows to
    infinity below z = -88, where the quotient is rightly 0: the caller silences that warning for a pass.
    """
    hidden_dim = out.shape[-1]
    gate = gate_up[..., :hidden_dim]
    np.negative(gate, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(gate, out, out=out)
    return np.multiply(out, gate_up[..., hidden_dim:], out=out)


def geglu(gate_up: F32, out: F32) -> F32:
    """gelu(gate) * up with the tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415); as `swiglu`."""
    hidden_dim = out.shape[-1]
    gate = gate_up[..., :hidden_dim]
    np.multiply(gate, gate, out=out)
    np.multiply(out, 0.044715, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, math.sqrt(2.0 / math.pi), out=out)
    np.tanh(out, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, 0.5, out=out)
    return np.multiply(out, gate_up[..., hidden_dim:], out=out)


def clamped_swiglu(gate_up: F32, out: F32) -> F32:
    """(up + 1) * gate * sigmoid(1.702 * gate), gate at most 7 and up within 7 of 0 (gpt-oss); as `swiglu`,
    and gate_up is clamped in place."""
    hidden_dim = out.shape[-1]
    gate, up = gate_up[..., :hidden_dim], gate_up[..., hidden_dim:]
    np.minimum(gate, 7.0, out=gate)
    np.clip(up, -7.0, 7.0, out=up)
    np.multiply(gate, -1.702, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(gate, out, out=out)
    np.add(up, 1.0, out=up)
    return np.multiply(out, up, out=out)


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x)), an array of its own; exp overflows as in `swiglu`."""
    y: F32 = np.exp(np.negative(x))
    np.add(y, 1.0, out=y)
    return np.divide(1.0, y, out=y)


def gated(activation: Activation, gate_up: F32, out: F32) -> F32:
    """The gated part of a feed-forward by its activation's name; as `swiglu`."""
    return GATED[activation](gate_up, out)


GATED: dict[Activation, Callable[[F32, F32], F32]] = {
    "silu": swiglu,
    "gelu_tanh": geglu,
    "clamped_swiglu": clamped_swiglu,
}


def soft_cap(x: F32, cap: float) -> F32:
    """cap * tanh(x / cap) of each number, whatever the shape, in place."""
    np.multiply(x, 1.0 / cap, out=x)
    np.tanh(x, out=x)
    return np.multiply(x, cap, out=x)


def softmax(scores: F32, sinks: F32 | None = None) -> F32:
    """A softmax over the last axis, in place.

    scores: (..., n); sinks: (..., 1), one more score of each row, whose share nobody needs, or None.
    """
    peaks = np.maximum.reduce(scores, axis=-1, keepdims=True)
    if sinks is not None:
        peaks = np.maximum(peaks, sinks)
    np.subtract(scores, peaks, out=scores)
    np.exp(scores, out=scores)
    sums = np.add.reduce(scores, axis=-1, keepdims=True)
    if sinks is not None:
        sums += np.exp(sinks - peaks)
    return np.divide(scores, sums, out=scores)


def log_sum_exp(logits: F32, scratch: F32) -> float:
    """log(sum(exp(logits))) of one row without overflow; NaN or infinity when the row holds one.

    logits, scratch: (vocab_size,).
    """
    peak = float(logits.max())
    if not math.isfinite(peak):
        return peak
    with np.errstate(over="ignore"):  # further below the peak than float32 reaches: -inf, and e to it is 0
        np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return peak + math.log(float(scratch.sum()))
