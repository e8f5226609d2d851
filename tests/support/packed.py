"""The packed layout read by NumPy: what a packed matrix stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.layout import PANEL_ROWS, PackedKind
from llama_core.quant.palettes import e8m0_halves

U8 = NDArray[np.uint8]
Bytes = NDArray[Any]


def unpack(packed: U8, kind: PackedKind, rows: int, columns: int) -> NDArray[np.float32]:
    """The numbers of a packed matrix, (rows, columns) float32. packed: (panels, blocks, block_bytes)."""
    panels, n, _ = packed.shape
    if kind.floats:
        numbers = _floats(np.ascontiguousarray(packed), kind).reshape(panels, n, -1, PANEL_ROWS)
        return numbers.transpose(0, 3, 1, 2).reshape(panels * PANEL_ROWS, -1)[:rows, :columns]
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


def _floats(packed: U8, kind: PackedKind) -> NDArray[np.float32]:
    if kind.floats == "bf16":
        return (packed.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return packed.view({"f16": "<f2", "f32": "<f4"}[str(kind.floats)]).astype(np.float32)


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
