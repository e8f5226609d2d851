"""Super-blocks of 256 values whose small scales are numbers of 4 to 8 bits: Q2_K to Q6_K, and Q8_K.

The drawings give bytes. d and dmin are float16 and scale the scales: a value is (d * scale) * q, less
(dmin * min) where the format has a minimum. Source: ggml-common.h and ggml-quants.c of the ggml project.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.quant.simple_blocks import half_floats

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]


def bit_planes(columns: Blocks, width: int, run: int) -> Blocks:
    """Numbers of `width` bits, stored plane by plane, in their own order.

    columns: (n, k * run) bytes; each run of `run` bytes holds 8 / width times as many numbers: the lowest
    bits of all its bytes first, then the next ones. Returns (n, k * run * 8 / width) uint8.
    """
    n = len(columns)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    planes = columns.reshape(n, -1, 1, run) >> shifts
    planes &= (1 << width) - 1
    return planes.reshape(n, -1)


def scales_and_mins(packed: Blocks) -> tuple[Blocks, Blocks]:
    """The eight 6-bit scales and minima of Q4_K and Q5_K from their (n, 12) bytes.

    Bytes 0 to 3 hold scales 0 to 3 in their low six bits and the top two bits of scales 4 to 7 above them,
    bytes 4 to 7 the minima alike; bytes 8 to 11 hold the low four bits of scale 4 + j and of minimum 4 + j.
    """
    low, mid, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([low & 63, high & 15 | (low >> 2 & 48)], axis=1)
    mins = np.concatenate([mid & 63, high >> 4 | (mid >> 2 & 48)], axis=1)
    return scales, mins


def scale_groups(out: Values, scales: Values, mins: Values | None = None) -> None:
    """out = out * scale - min, for (n, groups) scales and minima over equal groups of each row of `out`."""
    groups = out.reshape(*scales.shape, -1)
    groups *= scales[:, :, None]
    if mins is not None:
        groups -= mins[:, :, None]


def dequantize_q2_k(blocks: Blocks, out: Values) -> None:
    """| 16 x (scale 4 bits, min 4 bits): 16 | 256 x 2 bits: 64 | d: 2 | dmin: 2 |    groups of 16"""
    packed = blocks[:, :16]
    out[:] = bit_planes(blocks[:, 16:80], 2, 32)
    scale_groups(
        out, half_floats(blocks[:, 80:82]) * (packed & 15), half_floats(blocks[:, 82:84]) * (packed >> 4)
    )


def dequantize_q3_k(blocks: Blocks, out: Values) -> None:
    """| 256 x third bit: 32 | 256 x 2 bits: 64 | 16 x 6-bit scale: 12 | d: 2 |    groups of 16

    q is 0 to 3 where the third bit is set and -4 to -1 where it is not; scales are stored plus 32: low four
    bits in bytes 0 to 7 (two planes), top two bits in bytes 8 to 11 (four planes).
    """
    q = bit_planes(blocks[:, 32:96], 2, 32)
    q |= bit_planes(blocks[:, :32], 1, 32) << 2
    scales = bit_planes(blocks[:, 96:104], 4, 8) | bit_planes(blocks[:, 104:108], 2, 4) << 4
    out[:] = q
    out -= 4
    scale_groups(out, half_floats(blocks[:, 108:110]) * (scales.astype(np.float32) - 32))


def dequantize_q4_k(blocks: Blocks, out: Values) -> None:
    """| d: 2 | dmin: 2 | 8 x (6-bit scale, 6-bit min): 12 | 256 x 4 bits: 128 |    groups of 32"""
    scales, mins = scales_and_mins(blocks[:, 4:16])
    out[:] = bit_planes(blocks[:, 16:], 4, 32)
    scale_groups(out, half_floats(blocks[:, :2]) * scales, half_floats(blocks[:, 2:4]) * mins)


def dequantize_q5_k(blocks: Blocks, out: Values) -> None:
    """| d: 2 | dmin: 2 | 8 x (6-bit scale, 6-bit min): 12 | 256 x fifth bit: 32 | 256 x 4 bits: 128 |"""
    scales, mins = scales_and_mins(blocks[:, 4:16])
    q = bit_planes(blocks[:, 48:], 4, 32)
    q |= bit_planes(blocks[:, 16:48], 1, 32) << 4
    out[:] = q
    scale_groups(out, half_floats(blocks[:, :2]) * scales, half_floats(blocks[:, 2:4]) * mins)


def dequantize_q6_k(blocks: Blocks, out: Values) -> None:
    """| 256 x low 4 bits: 128 | 256 x top 2 bits: 64 | 16 x int8 scale: 16 | d: 2 |    groups of 16

    q is stored plus 32.
    """
    q = bit_planes(blocks[:, :128], 4, 64)
    q |= bit_planes(blocks[:, 128:192], 2, 32) << 4
    out[:] = q
    out -= 32
    scale_groups(out, half_floats(blocks[:, 208:210]) * blocks[:, 192:208].view(np.int8))


def dequantize_q8_k(blocks: Blocks, out: Values) -> None:
    """| d: float32 | 256 x int8: 256 | 16 x int16 sums of 16 values, not needed here: 32 |"""
    np.multiply(blocks[:, 4:260].view(np.int8), blocks[:, :4].view("<f4"), out=out)
