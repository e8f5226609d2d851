"""Float32 to blocks: what `models convert` writes. Equal to the `gguf` package's quantisers bit for bit.

Each takes (n, numbers of a block) float32 and returns (n, bytes of a block) uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llama_core.quant.table import BlockFormat

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]


def _scale_bytes(scale: Values) -> Blocks:
    return scale.astype("<f2").view(np.uint8)


def _inverse(scale: Values) -> Values:
    """1 / scale, and 0 where the scale is 0."""
    with np.errstate(divide="ignore"):
        inverse: Values = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    return inverse


def _pack_nibbles(numbers: Values) -> Blocks:
    """(n, 32) numbers, cut to whole ones from 0 to 15, as (n, 16) bytes: value j low, value j + 16 high."""
    q = np.clip(np.trunc(numbers).astype(np.uint8), 0, 15)
    packed: Blocks = np.bitwise_or(q[:, :16], np.left_shift(q[:, 16:], np.uint8(4)))
    return packed


def quantize_f32(values: Values) -> Blocks:
    """The numbers themselves, little-endian."""
    return values.astype("<f4").view(np.uint8)


def quantize_f16(values: Values) -> Blocks:
    """As float16, rounded to nearest even, little-endian."""
    return values.astype("<f2").view(np.uint8)


def quantize_q8_0(values: Values) -> Blocks:
    """The largest magnitude becomes 127; halves are rounded away from zero."""
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * _inverse(scale)
    magnitude = np.abs(scaled)
    whole = np.floor(magnitude)
    rounded = np.sign(scaled) * (whole + np.floor(2 * (magnitude - whole)))
    return np.concatenate([_scale_bytes(scale), rounded.astype(np.int8).view(np.uint8)], axis=1)


def quantize_q4_0(values: Values) -> Blocks:
    """The value of the largest magnitude becomes -8, so that the scale's sign is opposite to its own."""
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)
    numbers = values * _inverse(scale) + np.float32(8.5)
    return np.concatenate([_scale_bytes(scale), _pack_nibbles(numbers)], axis=1)


def quantize_q4_1(values: Values) -> Blocks:
    """The smallest value becomes 0 and the largest 15."""
    smallest = values.min(axis=1, keepdims=True)
    scale = (values.max(axis=1, keepdims=True) - smallest) / np.float32(15)
    numbers = (values - smallest) * _inverse(scale) + np.float32(0.5)
    return np.concatenate([_scale_bytes(scale), _scale_bytes(smallest), _pack_nibbles(numbers)], axis=1)


# (n_blocks, block_size) float32 to (n_blocks, block_bytes) uint8.
QUANTIZERS: dict[str, Callable[[Values], Blocks]] = {
    "F32": quantize_f32,
    "F16": quantize_f16,
    "Q8_0": quantize_q8_0,
    "Q4_0": quantize_q4_0,
    "Q4_1": quantize_q4_1,
}


def quantize(values: Values, fmt: BlockFormat) -> Blocks:
    """values: (n_rows, n_values) float32, finite; returns (n_rows, row_bytes) uint8.

    Raises ValueError for rows that are no multiple of a block, formats without a quantiser, NaN and infinity.
    """
    if fmt.name not in QUANTIZERS:
        raise ValueError(f"{fmt.name} cannot be written; {', '.join(QUANTIZERS)} can")
    row_bytes = fmt.row_bytes(values.shape[1])
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinity among the values")
    blocks = QUANTIZERS[fmt.name](np.ascontiguousarray(values).reshape(-1, fmt.block_size))
    return blocks.reshape(len(values), row_bytes)
