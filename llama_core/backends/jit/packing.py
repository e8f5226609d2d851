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

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.layout import BLOCK_COLUMNS, PANEL_ROWS, Q8, PackedKind, ceil_div, n_blocks
from llama_core.backends.jit.plan import NATIVE
from llama_core.checkpoint import Tensor
from llama_core.quant.dequantize import dequantize

U8 = NDArray[np.uint8]

# Rows packed at once: temporaries of a few MiB whatever the matrix.
_ROWS_AT_ONCE = 1024


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
            _pack_words(raw, kind, part)
        else:
            _pack_floats(dequantize(raw, tensor.fmt), part)


def _pack_words(raw: U8, kind: PackedKind, out: U8) -> None:
    """Blocks of Q4_0, Q4_1, Q8_0: scale (and minimum), then the quants in the order of the packed words."""
    panels, blocks, _ = out.shape
    n_headers = 1 + kind.has_min
    file_words = np.ascontiguousarray(raw).view(np.uint16).reshape(panels, PANEL_ROWS, blocks, -1)
    header = out[..., : kind.header_bytes].view(np.uint16).reshape(panels, blocks, n_headers, PANEL_ROWS)
    header[...] = file_words[..., :n_headers].transpose(0, 2, 3, 1)
    quants = file_words[..., n_headers:]
    if kind.bits == 8:
        quants = quants ^ np.uint16(0x8080)  # int8 to uint8 with offset 128
    # Words of four bytes: copied as one, they move three times faster than as two halves.
    quads = np.ascontiguousarray(quants).view(np.uint32)
    target = out[..., kind.header_bytes :].view(np.uint32).reshape(panels, blocks, -1, PANEL_ROWS)
    target[...] = quads.transpose(0, 2, 3, 1)


def _pack_floats(values: NDArray[np.float32], out: U8) -> None:
    """Any float32 rows, (16 panels, columns), as 8-bit blocks."""
    panels, blocks, _ = out.shape
    scales, quants = quantize_rows(values)
    header = out[..., : Q8.header_bytes].view(np.float16)
    header[...] = scales.reshape(panels, PANEL_ROWS, blocks).transpose(0, 2, 1)
    quads = (quants.view(np.uint8) ^ 0x80).view(np.uint32).reshape(panels, PANEL_ROWS, blocks, -1)
    target = out[..., Q8.header_bytes :].view(np.uint32).reshape(panels, blocks, -1, PANEL_ROWS)
    target[...] = quads.transpose(0, 2, 3, 1)


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
    panels, blocks, _ = packed.shape
    n_headers = 1 + kind.has_min
    header = np.ascontiguousarray(packed[..., : kind.header_bytes]).view(np.float16)
    header = header.reshape(panels, blocks, n_headers, PANEL_ROWS).astype(np.float32)
    quants = packed[..., kind.header_bytes :].reshape(panels, blocks, -1, PANEL_ROWS, 4)
    if kind.bits == 4:
        quants = np.concatenate((quants & 15, quants >> 4), axis=2)
    # (panel, block, word, row, byte) to (panel, row, block, column)
    numbers = quants.transpose(0, 3, 1, 2, 4).reshape(panels, PANEL_ROWS, blocks, BLOCK_COLUMNS)
    values = (numbers.astype(np.float32) - kind.offset) * header[:, :, 0].transpose(0, 2, 1)[..., None]
    if kind.has_min:
        values += header[:, :, 1].transpose(0, 2, 1)[..., None]
    return values.reshape(panels * PANEL_ROWS, -1)[:rows, :columns]
