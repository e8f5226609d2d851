"""Formats without blocks, F32, F16, BF16, F64, whose "block" is one number; and llama2.c's groups of int8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]


def dequantize_f32(blocks: Blocks, out: Values) -> None:
    """IEEE 754 single precision, copied bit for bit."""
    out.view(np.uint32)[:] = blocks.view("<u4")


def dequantize_f16(blocks: Blocks, out: Values) -> None:
    """IEEE 754 half precision."""
    out[:] = blocks.view("<f2")


def dequantize_bf16(blocks: Blocks, out: Values) -> None:
    """The upper half of a float32: sign, 8 exponent bits, 7 bits of mantissa."""
    bits = out.view(np.uint32)
    bits[:] = blocks.view("<u2")
    bits <<= 16


def dequantize_f64(blocks: Blocks, out: Values) -> None:
    """IEEE 754 double precision, rounded to the nearest float32."""
    out[:] = blocks.view("<f8")


def dequantize_q8_group(blocks: Blocks, out: Values) -> None:
    """| d: float32 | n x int8: n |    value = d * q; the loader brings llama2.c's arrays into this order"""
    np.multiply(blocks[:, 4:].view(np.int8), blocks[:, :4].view("<f4"), out=out)
