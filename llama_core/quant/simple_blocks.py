"""Blocks of 32 values with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

A block's 4-bit numbers stand as 16 bytes: byte j holds value j in its low and value j + 16 in its high half.
The drawings give bytes; d is the scale and m the smallest value, both float16. Source: ggml-common.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]


def half_floats(columns: Blocks) -> Values:
    """(n, 2k) bytes of a block as (n, k) float32."""
    return columns.view("<f2").astype(np.float32)


def write_nibbles(columns: Blocks, out: Values) -> None:
    """(n, 16) bytes into (n, 32): low halves first, then high halves."""
    np.bitwise_and(columns, 15, out=out[:, :16], casting="unsafe")
    np.right_shift(columns, 4, out=out[:, 16:], casting="unsafe")


def write_five_bits(high: Blocks, low: Blocks, out: Values) -> None:
    """(n, 4) bytes of fifth bits, bit j for value j, over (n, 16) bytes of nibbles, into (n, 32)."""
    q = np.unpackbits(high, axis=1, bitorder="little")
    q <<= 4
    q[:, :16] |= low & 15
    q[:, 16:] |= low >> 4
    out[:] = q


def dequantize_q4_0(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x 4 bits: 16 |    value = d * (q - 8)"""
    write_nibbles(blocks[:, 2:], out)
    out -= 8
    out *= half_floats(blocks[:, :2])


def dequantize_q4_1(blocks: Blocks, out: Values) -> None:
    """| d: 2 | m: 2 | 32 x 4 bits: 16 |    value = d * q + m"""
    write_nibbles(blocks[:, 4:], out)
    out *= half_floats(blocks[:, :2])
    out += half_floats(blocks[:, 2:4])


def dequantize_q5_0(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x fifth bit: 4 | 32 x 4 bits: 16 |    value = d * (q - 16)"""
    write_five_bits(blocks[:, 2:6], blocks[:, 6:], out)
    out -= 16
    out *= half_floats(blocks[:, :2])


def dequantize_q5_1(blocks: Blocks, out: Values) -> None:
    """| d: 2 | m: 2 | 32 x fifth bit: 4 | 32 x 4 bits: 16 |    value = d * q + m"""
    write_five_bits(blocks[:, 4:8], blocks[:, 8:], out)
    out *= half_floats(blocks[:, :2])
    out += half_floats(blocks[:, 2:4])


def dequantize_q8_0(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x int8: 32 |    value = d * q"""
    np.multiply(blocks[:, 2:].view(np.int8), half_floats(blocks[:, :2]), out=out)
