"""Vectors from a fixed grid, 8 or 4 values at a time, with signs and small scales: the IQ1, IQ2, IQ3 formats.

Super-blocks of 256 values. The drawings give bytes; d is float16. `grids.py` holds the grids. Source:
ggml-common.h and ggml-quants.c of the ggml project.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.quant.grids import even_sign_patterns, grid, sign_patterns
from llama_core.quant.k_quants import bit_planes, scale_groups
from llama_core.quant.simple_blocks import half_floats

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]

HALF, QUARTER = np.float32(0.5), np.float32(0.25)
# IQ1 shifts each vector by an eighth, up or down.
DELTA = np.float32(0.125)


def _seven_bit_signs(words: NDArray[np.uint32]) -> Values:
    """Four 7-bit sign numbers from the low 28 bits of each (n, 8) word, as (n, 256) of 1 and -1."""
    shifts = np.array([0, 7, 14, 21], dtype=np.uint32)
    signs: Values = even_sign_patterns()[words[:, :, None] >> shifts & 127].reshape(len(words), -1)
    return signs


def dequantize_iq2_xxs(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 8 x (4 x grid index: 4 | 4 x 7-bit signs, 4-bit scale: 4) |    groups of 32"""
    n = len(blocks)
    words = blocks[:, 2:].view("<u4").reshape(n, 8, 2)
    indices = blocks[:, 2:].reshape(n, 8, 8)[:, :, :4].reshape(n, 32)
    out[:] = grid("IQ2_XXS")[indices].reshape(n, 256)
    out *= _seven_bit_signs(words[:, :, 1])
    scales = HALF + (words[:, :, 1] >> 28).astype(np.float32)
    scale_groups(out, half_floats(blocks[:, :2]) * scales * QUARTER)


def dequantize_iq2_xs(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x (9-bit grid index, 7-bit signs): 64 | 16 x 4-bit scale: 8 |    groups of 16"""
    n = len(blocks)
    indices = blocks[:, 2:66].view("<u2")
    out[:] = grid("IQ2_XS")[indices & 511].reshape(n, 256)
    out *= even_sign_patterns()[indices >> 9].reshape(n, 256)
    scales = HALF + bit_planes(blocks[:, 66:], 4, 1)
    scale_groups(out, half_floats(blocks[:, :2]) * scales * QUARTER)


def dequantize_iq2_s(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x index's low byte: 32 | 256 x sign: 32 | 32 x its top 2 bits: 8 | 16 x 4-bit scale: 8 |"""
    n = len(blocks)
    indices = blocks[:, 2:34] | bit_planes(blocks[:, 66:74], 2, 1).astype(np.uint16) << 8
    out[:] = grid("IQ2_S")[indices].reshape(n, 256)
    out *= sign_patterns()[blocks[:, 34:66]].reshape(n, 256)
    scales = HALF + bit_planes(blocks[:, 74:], 4, 1)
    scale_groups(out, half_floats(blocks[:, :2]) * scales * QUARTER)


def dequantize_iq3_xxs(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 64 x grid index: 64 | 8 x (4 x 7-bit signs, 4-bit scale): 32 |    4 a vector, 32 a group"""
    n = len(blocks)
    words = blocks[:, 66:].view("<u4")
    out[:] = grid("IQ3_XXS")[blocks[:, 2:66]].reshape(n, 256)
    out *= _seven_bit_signs(words)
    scale_groups(out, half_floats(blocks[:, :2]) * (HALF + (words >> 28).astype(np.float32)) * HALF)


def dequantize_iq3_s(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 64 x index's low byte: 64 | 64 x index's top bit: 8 | 256 x sign: 32 | 8 x 4-bit scale: 4 |"""
    n = len(blocks)
    indices = blocks[:, 2:66] | bit_planes(blocks[:, 66:74], 1, 1).astype(np.uint16) << 8
    out[:] = grid("IQ3_S")[indices].reshape(n, 256)
    out *= sign_patterns()[blocks[:, 74:106]].reshape(n, 256)
    scale_groups(out, half_floats(blocks[:, :2]) * (1 + 2 * bit_planes(blocks[:, 106:], 4, 1)))


def dequantize_iq1_s(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x index's low byte: 32 | 8 x (4 x index's top 3 bits, 3-bit scale, sign of delta): 16 |"""
    n = len(blocks)
    words = blocks[:, 34:].view("<u2")
    shifts = np.array([0, 3, 6, 9], dtype=np.uint16)
    high = (words[:, :, None] >> shifts & 7).reshape(n, 32)
    out[:] = grid("IQ1_S")[blocks[:, 2:34] | high << 8].reshape(n, 256)
    vectors = out.reshape(n, 8, 32)
    vectors += np.where(words >> 15, -DELTA, DELTA)[:, :, None]
    scale_groups(out, half_floats(blocks[:, :2]) * (2 * (words >> 12 & 7) + 1))


def dequantize_iq1_m(blocks: Blocks, out: Values) -> None:
    """| 32 x index's low byte: 32 | 32 x (index's top 3 bits, sign of delta): 16 | 16 x 3-bit scale: 8 |

    The scales' four 16-bit words keep a quarter of d each in their top four bits; groups of 16.
    """
    n = len(blocks)
    nibbles = bit_planes(blocks[:, 32:48], 4, 1)
    indices = blocks[:, :32] | (nibbles & 7).astype(np.uint16) << 8
    out[:] = grid("IQ1_S")[indices].reshape(n, 256)
    vectors = out.reshape(n, 32, 8)
    vectors += np.where(nibbles & 8, -DELTA, DELTA)[:, :, None]
    words = blocks[:, 48:].view("<u2")
    d_bits = (words >> 12) << np.array([0, 4, 8, 12], dtype=np.uint16)
    d = np.bitwise_or.reduce(d_bits, axis=1, keepdims=True).astype("<u2").view("<f2").astype(np.float32)
    scales = (words[:, :, None] >> np.array([0, 3, 6, 9], dtype=np.uint16) & 7).reshape(n, 16)
    scale_groups(out, d * (2 * scales + 1))
