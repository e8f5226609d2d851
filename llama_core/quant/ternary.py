"""Values of -d, 0 or d: TQ1_0 (1.69 bits a value) and TQ2_0 (2.06 bits), in blocks of 256.

Source: ggml-common.h and ggml-quants.c of the ggml project.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.quant.k_quants import bit_planes
from llama_core.quant.simple_blocks import half_floats

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]


def _trits(columns: Blocks, n_trits: int) -> Blocks:
    """(n, k) bytes, each a fraction of 256 in base 3, as (n, n_trits * k): first digits first.

    Multiplying by 3^j modulo 256 moves digit j behind the point; times 3, the carry into the ninth bit is it.
    """
    powers = np.array([[1], [3], [9], [27], [81]], dtype=np.uint8)[:n_trits]
    shifted = columns[:, None, :] * powers
    return (shifted.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(columns), -1)


def dequantize_tq1_0(blocks: Blocks, out: Values) -> None:
    """| 160 x trit, 5 a byte: 32 | 80 x trit, 5 a byte: 16 | 16 x trit, 4 a byte: 4 | d: 2 |"""
    out[:, :160] = _trits(blocks[:, :32], 5)
    out[:, 160:240] = _trits(blocks[:, 32:48], 5)
    out[:, 240:] = _trits(blocks[:, 48:52], 4)
    out -= 1
    out *= half_floats(blocks[:, 52:])


def dequantize_tq2_0(blocks: Blocks, out: Values) -> None:
    """| 256 x 2 bits: 64 | d: 2 |    value = d * (q - 1)"""
    out[:] = bit_planes(blocks[:, :64], 2, 32)
    out -= 1
    out *= half_floats(blocks[:, 64:])
