"""Tensors of a file into the packed layout (drawn in `layout.py`), by several threads, a few MiB at a time.

Types that the kernels know (`plan.NATIVE`) keep their very numbers: packing moves bits (`kernels/pack.py`).
Every other type becomes Q8_0's blocks first, 8 bits and a float16 scale for 32 numbers. A number is then off
by half a step at most: 1/253 of the largest number in its block, and 3e-8 more where that is below 0.008,
since float16 knows no smaller step than 6e-8. From 8.3e6 on there is no such scale: TooLargeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.layout import BLOCK_COLUMNS, PANEL_ROWS, ceil_div, n_blocks
from llama_core.backends.jit.plan import PackedMatrix, PackedPart
from llama_core.events import LoadProgress
from llama_core.quant.dequantize import dequantize

U8 = NDArray[np.uint8]


class TooLargeError(ValueError):
    """Numbers of a tensor do not fit 8 bits with a float16 scale. tensor: its name."""

    def __init__(self, tensor: str) -> None:
        super().__init__(f"{tensor}: numbers too large for 8-bit blocks")
        self.tensor = tensor


OnProgress = Callable[[LoadProgress], None]
# `pack(kind, rows, panels, blocks, out, stride)` of `kernels/pack.py`; holds no interpreter lock.
PackKernel = Callable[[int, int, int, int, int, int], None]

# Bytes of the file packed at once: milliseconds, so that a load can be cancelled, and little memory beside
# the result. Other types are unpacked by NumPy, a hundred times slower.
CHUNK_BYTES, SLOW_CHUNK_BYTES = 4 << 20, 1 << 18


def pack_matrices(
    matrices: Sequence[PackedMatrix],
    memories: Sequence[U8],
    pack: PackKernel,
    threads: int,
    on_progress: OnProgress | None = None,
) -> None:
    """Pack each matrix into its memory. An exception of `on_progress` ends it within a chunk's time.

    Raises TooLargeError.
    """
    chunks = [
        chunk
        for matrix, memory in zip(matrices, memories, strict=True)
        for part in matrix.parts
        for chunk in _chunks(part, address(memory))
    ]
    total = sum(chunk.nbytes for chunk in chunks)
    done = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pack-weights")
    try:
        for chunk in pool.map(lambda chunk: chunk.packed(pack), chunks):
            done += chunk.nbytes
            if on_progress is not None:
                on_progress(LoadProgress("weights", done, total))
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(part: PackedPart, memory: int) -> Iterator[_Chunk]:
    """A part's panels, some at a time; memory: where its matrix is."""
    raw = part.tensor.raw
    size = CHUNK_BYTES if part.is_native else SLOW_CHUNK_BYTES
    at_once = max(1, size // (PANEL_ROWS * raw.shape[1]))
    for first in range(0, part.panels, at_once):
        panels = min(at_once, part.panels - first)
        yield _Chunk(part, first, panels, memory + part.offset + first * part.stride)


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """`panels` panels of a part from number `first` on, and the address where the first is to be."""

    part: PackedPart
    first: int
    panels: int
    out: int

    @property
    def rows(self) -> slice:
        start = self.first * PANEL_ROWS
        return slice(start, min(self.part.tensor.shape[0], start + self.panels * PANEL_ROWS))

    @property
    def nbytes(self) -> int:
        """Of the file."""
        rows = self.rows
        return int((rows.stop - rows.start) * self.part.tensor.raw.shape[1])

    def packed(self, pack: PackKernel) -> _Chunk:
        """Itself, when it is done."""
        tensor, kind = self.part.tensor, self.part.kind
        raw = tensor.rows(self.rows.start, self.rows.stop)
        if not self.part.is_native:
            values = dequantize(raw, tensor.fmt)
            raw = values.view(np.uint8) if kind.floats else _q8_blocks(values, tensor.name)
        elif tensor.shape[1] % kind.columns:  # floats, the only rows that may end within a block
            more = -tensor.shape[1] % kind.columns * tensor.fmt.block_bytes
            raw = np.pad(raw, ((0, 0), (0, more)))
        # Rows that a last panel lacks are zeros in any type.
        lacking = np.zeros(raw.shape[1], dtype=np.uint8)
        addresses = np.full(self.panels * PANEL_ROWS, address(lacking), dtype=np.int64)
        addresses[: len(raw)] = address(raw) + np.arange(len(raw)) * raw.strides[0]
        blocks = ceil_div(tensor.shape[1], kind.columns)
        pack(kind.code, address(addresses), self.panels, blocks, self.out, self.part.stride)
        return self


def _q8_blocks(values: NDArray[np.float32], tensor: str) -> U8:
    """Float32 rows as Q8_0's blocks, (rows, 34 * blocks) uint8; columns are padded with zeros."""
    scales, quants = quantize_rows(values)
    # A file's own infinity or NaN is another matter: there NumPy's results are no better.
    if np.isinf(scales).any() and np.isfinite(values).all():
        raise TooLargeError(tensor)
    blocks = (scales[..., None].view(np.uint8), quants.view(np.uint8).reshape(*scales.shape, BLOCK_COLUMNS))
    return np.concatenate(blocks, axis=2).reshape(len(values), -1)


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
