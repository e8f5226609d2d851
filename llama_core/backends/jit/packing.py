"""Tensors of a file into the packed layout (drawn in `layout.py`).

GGUF's Q4_0, Q4_1 and Q8_0 keep their very numbers: packing moves words and, for Q8_0, flips sign bits. Every
other type (16- and 32-bit floats, K-quants, ...) becomes 8-bit blocks of 32 with a float16 scale. A number is
then off by half a step at most: 1/253 of the largest number in its block, and 3e-8 more where that is below
0.008, since float16 knows no smaller step than 6e-8. (From 8.3e6 on the scale is infinite; such a model ends
in NaN.) As the root mean square over random blocks, relative to that of the numbers themselves, that is

    Q2_K 0.39 %    Q3_K 0.45 %    Q4_K 0.37 %    Q5_K 0.37 %    Q6_K 0.45 %    IQ4_XS 0.12 %    F32 0.54 %

In the logits this makes about as much again as the int8 activations do (`test_packing.py` holds bounds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.layout import BLOCK_COLUMNS, PANEL_ROWS, Q8, PackedKind, ceil_div, n_blocks
from llama_core.backends.jit.plan import NATIVE
from llama_core.checkpoint import Tensor
from llama_core.quant.dequantize import dequantize
from llama_core.quant.k_quants import bit_planes, scales_and_mins
from llama_core.quant.palettes import e8m0_halves
from llama_core.quant.table import BlockFormat

U8 = NDArray[np.uint8]
Bytes = NDArray[Any]  # uint8 too, whatever mypy takes uint8 << 4 for

# Rows packed at once: temporaries of a few MiB whatever the matrix.
_ROWS_AT_ONCE = 1024


def _half_bytes(low_first: U8) -> Bytes:
    """(n, 16) bytes: all low halves, then all high ones."""
    return bit_planes(low_first, 4, 16)


def _five_bits(high: U8, low: U8) -> Bytes:
    fifth: Bytes = np.unpackbits(high, axis=1, bitorder="little") << 4
    return _half_bytes(low) | fifth


def _negative(halves: U8) -> Bytes:
    """Float16 with the other sign."""
    return halves ^ np.array([0, 0x80], dtype=np.uint8)


def _q4_k(blocks: U8) -> tuple[Bytes, ...]:
    quants: Bytes = bit_planes(blocks[:, -128:], 4, 32)
    if blocks.shape[1] == 176:
        quants = quants | bit_planes(blocks[:, 16:48], 1, 32) << 4
    return blocks[:, :2], _negative(blocks[:, 2:4]), *scales_and_mins(blocks[:, 4:16]), quants


def _q3_k(blocks: U8) -> tuple[Bytes, ...]:
    quants: Bytes = bit_planes(blocks[:, 32:96], 2, 32) | bit_planes(blocks[:, :32], 1, 32) << 2
    scales = bit_planes(blocks[:, 96:104], 4, 8) | bit_planes(blocks[:, 104:108], 2, 4) << 4
    return blocks[:, 108:110], scales - 32, quants


def _q6_k(blocks: U8) -> tuple[Bytes, ...]:
    quants: Bytes = bit_planes(blocks[:, :128], 4, 64) | bit_planes(blocks[:, 128:192], 2, 32) << 4
    return blocks[:, 208:210], blocks[:, 192:208], quants


def _iq4_xs(blocks: U8) -> tuple[Bytes, ...]:
    scales = bit_planes(blocks[:, 4:8], 4, 1) | bit_planes(blocks[:, 2:4], 2, 1) << 4
    return blocks[:, :2], scales - 32, bit_planes(blocks[:, 8:], 4, 16)


# Blocks of a file, (n, block_bytes): the bytes of the header's fields as `PackedKind.fields` lists them, then
# the quants, (n, block_size). The file's side is drawn in `llama_core.quant`.
_READERS: dict[str, Callable[[U8], tuple[Bytes, ...]]] = {
    "Q4_0": lambda b: (b[:, :2], _half_bytes(b[:, 2:])),
    "Q4_1": lambda b: (b[:, :2], b[:, 2:4], _half_bytes(b[:, 4:])),
    "Q5_0": lambda b: (b[:, :2], _five_bits(b[:, 2:6], b[:, 6:])),
    "Q5_1": lambda b: (b[:, :2], b[:, 2:4], _five_bits(b[:, 4:8], b[:, 8:])),
    "Q8_0": lambda b: (b[:, :2], b[:, 2:] ^ 0x80),
    "Q2_K": lambda b: (b[:, 80:82], _negative(b[:, 82:84]), b[:, :16], bit_planes(b[:, 16:80], 2, 32)),
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q4_k,
    "Q6_K": _q6_k,
    "IQ4_NL": lambda b: (b[:, :2], _half_bytes(b[:, 2:])),
    "IQ4_XS": _iq4_xs,
    "MXFP4": lambda b: (b[:, :1], _half_bytes(b[:, 1:])),
}


def pack(tensor: Tensor, kind: PackedKind, out: U8) -> None:
    """All rows of `tensor`, (rows, columns), into `out`: (panels, blocks, block_bytes) uint8.

    The first two axes of `out` may have any strides (gates and ups share a matrix, panel by panel); rows
    beyond the tensor's must be zero already.
    """
    rows = tensor.shape[0]
    for start in range(0, rows, _ROWS_AT_ONCE):
        raw = tensor.rows(start, min(rows, start + _ROWS_AT_ONCE))
        panels = ceil_div(len(raw), PANEL_ROWS)
        if len(raw) % PANEL_ROWS:
            raw = np.concatenate((raw, np.zeros((-len(raw) % PANEL_ROWS, raw.shape[1]), dtype=np.uint8)))
        part = out[start // PANEL_ROWS :][:panels]
        if NATIVE.get(tensor.fmt.name) is kind:
            _pack_blocks(raw, tensor.fmt, kind, part)
        else:
            _pack_floats(dequantize(raw, tensor.fmt), part)


def _pack_blocks(raw: U8, fmt: BlockFormat, kind: PackedKind, out: U8) -> None:
    """A file's blocks as the blocks of their own kind: (16 panels, row_bytes) into `out`."""
    panels, n, _ = out.shape
    *header, quants = _READERS[fmt.name](raw.reshape(-1, fmt.block_bytes))
    _write_blocks([field.reshape(panels, PANEL_ROWS, n, -1) for field in header], quants, kind, out)


def _write_blocks(header: Sequence[Bytes], quants: Bytes, kind: PackedKind, out: U8) -> None:
    """header: its fields' bytes, (panels, 16, blocks, bytes). quants: (panels * 16 * blocks, columns)."""
    panels, n, _ = out.shape
    at = 0
    for field, (count, size) in zip(header, kind.fields, strict=True):
        numbers = field.reshape(panels, PANEL_ROWS, n, count, size).transpose(0, 2, 3, 1, 4)
        here = out[:, :, at : at + count * size * PANEL_ROWS]
        here[...] = numbers.reshape(panels, n, -1)
        at += here.shape[2]
    # (panel, row, block, part, word, byte) to (panel, block, part, word, row, byte)
    words = quants.reshape(panels, PANEL_ROWS, n, -1, 8, 4).transpose(0, 2, 3, 4, 1, 5)
    parts = out[:, :, at:].reshape(panels, n, -1, kind.bits, PANEL_ROWS, 4)
    first = worth = 0
    for width in kind.planes:
        bits = words >> worth & ((1 << width) - 1)
        plane = parts[:, :, :, first : first + width]
        for slot in range(8 // width):
            plane |= bits[:, :, :, slot * width : (slot + 1) * width] << slot * width
        first, worth = first + width, worth + width
    out[:, :, at:] = parts.reshape(panels, n, -1)


def _pack_floats(values: NDArray[np.float32], out: U8) -> None:
    """Any float32 rows, (16 panels, columns), as 8-bit blocks."""
    panels, n, _ = out.shape
    scales, quants = quantize_rows(values)
    header = scales.view(np.uint8).reshape(panels, PANEL_ROWS, n, 2)
    _write_blocks([header], quants.view(np.uint8) ^ 0x80, Q8, out)


def quantize_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Rows in blocks of 32: ((rows, blocks) float16 scales, (rows, blocks * 32) int8), the number being
    their product. Columns are padded with zeros to whole blocks."""
    rows, columns = values.shape
    padded = n_blocks(columns) * BLOCK_COLUMNS
    if padded != columns:
        values = np.pad(values, ((0, 0), (0, padded - columns)))
    cut = values.reshape(rows, -1, BLOCK_COLUMNS)
    largest = np.abs(cut).max(axis=2)
    with np.errstate(over="ignore"):
        scales = (largest / 127.0).astype(np.float16)
    # Among float16's smallest numbers the nearest may be so far below that the largest quant would not fit.
    too_small = largest > scales * np.float32(127.5)
    scales[too_small] = np.nextafter(scales[too_small], np.float16(np.inf))
    # The quants fit the scale as it is stored. A scale of 0 stands for a block of zeros.
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(scales > 0, 1.0 / scales.astype(np.float32), 0.0)[..., None]
    quants = np.clip(np.rint(cut * inverse), -127, 127).astype(np.int8)
    return scales, quants.reshape(rows, padded)


def unpack(packed: U8, kind: PackedKind, rows: int, columns: int) -> NDArray[np.float32]:
    """The numbers a packed matrix stands for, (rows, columns) float32: slow, for tests and for inspection."""
    panels, n, _ = packed.shape
    at, fields = 0, []
    for count, size in kind.fields:
        end = at + count * size * PANEL_ROWS
        field = np.ascontiguousarray(packed[:, :, at:end]).reshape(panels, n, count, PANEL_ROWS, size)
        fields.append(field.transpose(0, 3, 1, 2, 4))  # (panel, row, block, count, size)
        at = end
    parts = packed[:, :, at:].reshape(panels, n, -1, kind.bits, PANEL_ROWS, 4)
    quants = np.zeros((panels, n, parts.shape[2], 8, PANEL_ROWS, 4), dtype=np.uint8)
    first = worth = 0
    for width in kind.planes:
        for word in range(8):
            slot = parts[:, :, :, first + word % width] >> word // width * width
            quants[:, :, :, word] |= (slot & ((1 << width) - 1)) << worth
        first, worth = first + width, worth + width
    numbers = quants.transpose(0, 4, 1, 2, 3, 5).reshape(panels, PANEL_ROWS, n, kind.groups, -1)
    if kind.levels is not None:
        numbers = np.array(kind.levels, dtype=np.uint8)[numbers]
    scales, minima = _scales(fields, kind)
    values = (numbers.astype(np.float32) - np.float32(kind.offset)) * scales[..., None]
    if minima is not None:
        values += minima[..., None]
    return values.reshape(panels * PANEL_ROWS, -1)[:rows, :columns]


def _scales(fields: list[U8], kind: PackedKind) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Of each group, (panels, 16, blocks, groups) float32, and the minima alike."""
    if kind.scales == "e8m0":
        return e8m0_halves()[fields[0][..., 0]], None
    halves = [np.ascontiguousarray(f).view("<f2")[..., 0] for f in fields[: 1 + kind.has_min]]
    floats = [f.astype(np.float32) for f in halves]
    minima = floats[1] if kind.has_min else None
    if kind.scales == "f16":
        return floats[0], minima
    wholes: list[Bytes] = [f[..., 0] for f in fields[1 + kind.has_min :]]
    if kind.scales == "nibbles":
        wholes = [wholes[0] & 15, wholes[0] >> 4]
    if kind.scales == "signed":
        wholes = [wholes[0].view(np.int8)]
    return floats[0] * wholes[0], None if minima is None else minima * wholes[1]
