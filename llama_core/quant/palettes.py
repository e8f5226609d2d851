"""Formats whose 4-bit numbers pick one of 16 uneven levels: IQ4_NL, IQ4_XS, MXFP4, NVFP4.

Sources: ggml-common.h; the OCP Microscaling Formats specification 1.0 for MXFP4's E2M1 and E8M0 numbers.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from llama_core.quant.k_quants import bit_planes, scale_groups
from llama_core.quant.simple_blocks import half_floats

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]

IQ4_LEVELS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
# E2M1: sign, two exponent bits, one of mantissa; doubled, so that all are whole.
FP4_LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.float32)


def dequantize_iq4_nl(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 32 x 4 bits: 16 |    value = d * level[q]"""
    out[:] = IQ4_LEVELS[bit_planes(blocks[:, 2:], 4, 16)]
    out *= half_floats(blocks[:, :2])


def dequantize_iq4_xs(blocks: Blocks, out: Values) -> None:
    """| d: 2 | 8 x scale's top 2 bits: 2 | 8 x scale's low 4 bits: 4 | 256 x 4 bits: 128 |    groups of 32

    Scales are stored plus 32; here neighbours share a byte, low half first.
    """
    low = bit_planes(blocks[:, 4:8], 4, 1)
    high = bit_planes(blocks[:, 2:4], 2, 1)
    scales = (low | high << 4).astype(np.float32) - 32
    out[:] = IQ4_LEVELS[bit_planes(blocks[:, 8:], 4, 16)]
    scale_groups(out, half_floats(blocks[:, :2]) * scales)


@cache
def e8m0_halves() -> Values:
    """2^(e - 128) for each byte e, half of what E8M0 says since the levels are doubled; subnormal below 2."""
    exponents = np.arange(256, dtype=np.uint32)
    return (
        np.where(exponents < 2, 0x200000 << exponents, exponents - 1 << 23).astype(np.uint32).view(np.float32)
    )


@cache
def _ue4m3_halves() -> Values:
    """Half of what each byte says as an unsigned float of 4 exponent and 3 mantissa bits.

    The top bit is unused. 0x7F, the format's NaN, counts as 0 as in ggml; 0xFF, its twin with the unused
    bit, does not.
    """
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, (bits & 7).astype(np.float32)
    values = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(1 + mantissa / 8, exponent - 7))
    values[0x7F] = 0
    return (values * 0.5).astype(np.float32)


def dequantize_mxfp4(blocks: Blocks, out: Values) -> None:
    """| e: 1 | 32 x E2M1: 16 |    value = 2^(e - 127) * E2M1"""
    out[:] = FP4_LEVELS[bit_planes(blocks[:, 1:], 4, 16)]
    out *= e8m0_halves()[blocks[:, :1]]


def dequantize_nvfp4(blocks: Blocks, out: Values) -> None:
    """| 4 x scale E4M3: 4 | 64 x E2M1: 32 |    groups of 16, each 8 bytes: low halves, then high halves"""
    out[:] = FP4_LEVELS[bit_planes(blocks[:, 4:], 4, 8)]
    scale_groups(out, _ue4m3_halves()[blocks[:, :4]])
