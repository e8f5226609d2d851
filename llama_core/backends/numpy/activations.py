"""The gated part of a feed-forward, and the curves that gates are made of.

Each gated function takes gate_up, (..., 2 * hidden_dim) with the gate in the first half, and writes out,
(..., hidden_dim). exp overflows to infinity below z = -88, where 1 / (1 + exp(-z)) is rightly 0: the caller
silences that warning for a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Activation

F32 = NDArray[np.float32]


def gated(activation: Activation, gate_up: F32, out: F32) -> F32:
    """activation(gate) * up by the activation's name."""
    return GATED[activation](gate_up, out)


def swiglu(gate_up: F32, out: F32) -> F32:
    """silu(gate) * up with silu(z) = z / (1 + exp(-z)) (Shazeer, arXiv:2002.05202)."""
    gate, up = _halves(gate_up, out)
    np.negative(gate, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(gate, out, out=out)
    return np.multiply(out, up, out=out)


def geglu(gate_up: F32, out: F32) -> F32:
    """gelu(gate) * up with the tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415)."""
    gate, up = _halves(gate_up, out)
    np.multiply(gate, gate, out=out)
    np.multiply(out, 0.044715, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, math.sqrt(2.0 / math.pi), out=out)
    np.tanh(out, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, 0.5, out=out)
    return np.multiply(out, up, out=out)


def clamped_swiglu(gate_up: F32, out: F32) -> F32:
    """(up + 1) * gate * sigmoid(1.702 * gate), gate at most 7 and up within 7 of 0 (gpt-oss); gate_up is
    clamped in place."""
    gate, up = _halves(gate_up, out)
    np.minimum(gate, 7.0, out=gate)
    np.clip(up, -7.0, 7.0, out=up)
    np.multiply(gate, -1.702, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(gate, out, out=out)
    np.add(up, 1.0, out=up)
    return np.multiply(out, up, out=out)


GATED: dict[Activation, Callable[[F32, F32], F32]] = {
    "silu": swiglu,
    "gelu_tanh": geglu,
    "clamped_swiglu": clamped_swiglu,
}


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x)), an array of its own, of any shape."""
    y: F32 = np.exp(np.negative(x))
    np.add(y, 1.0, out=y)
    return np.divide(1.0, y, out=y)


def silu(x: F32) -> F32:
    """x * sigmoid(x), an array of its own, of any shape."""
    y = sigmoid(x)
    return np.multiply(x, y, out=y)


def softplus(x: F32) -> F32:
    """log(1 + exp(x)), an array of its own, of any shape."""
    y: F32 = np.logaddexp(0.0, x)
    return y


def _halves(gate_up: F32, out: F32) -> tuple[F32, F32]:
    """gate and up, (..., hidden_dim) each."""
    hidden_dim = out.shape[-1]
    return gate_up[..., :hidden_dim], gate_up[..., hidden_dim:]
