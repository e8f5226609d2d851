"""Tensors of a file into the packed layout (drawn in `layout.py`), by several threads, a few MiB at a time.

Most of a file is read and packed by compiled code (`streaming.py`); the rest is read here.

Types that the kernels know (`plan.NATIVE`) keep their very numbers: packing moves bits (`kernels/pack.py`).
Every other type becomes Q8_0's blocks first, 8 bits and a float16 scale for 32 numbers. A number is then off
by half a step at most: 1/253 of the largest number in its block, and 3e-8 more where that is below 0.008,
since float16 knows no smaller step than 6e-8. From 8.3e6 on there is no such scale: TooLargeError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.chunks import Chunk, cut
from llama_core.backends.jit.layout import BLOCK_COLUMNS, PANEL_ROWS, ceil_div, n_blocks
from llama_core.backends.jit.plan import PackedMatrix
from llama_core.backends.jit.streaming import PackKernels, stream_chunks
from llama_core.events import LoadProgress
from llama_core.quant.dequantize import dequantize

U8 = NDArray[np.uint8]


class TooLargeError(ValueError):
    """Numbers of a tensor do not fit 8 bits with a float16 scale. tensor: its name."""

    def __init__(self, tensor: str) -> None:
        super().__init__(f"{tensor}: numbers too large for 8-bit blocks")
        self.tensor = tensor


OnProgress = Callable[[LoadProgress], None]


def pack_matrices(
    matrices: Sequence[PackedMatrix],
    memories: Sequence[U8],
    kernels: PackKernels,
    threads: int,
    on_progress: OnProgress | None = None,
    note: str = "",
) -> None:
    """Pack each matrix into its memory. An exception of `on_progress` ends it within a chunk's time.

    note: a sentence for the user, told with the first progress.

    Raises TooLargeError.
    """
    chunks = [
        chunk
        for matrix, memory in zip(matrices, memories, strict=True)
        for part in matrix.parts
        for chunk in cut(part, address(memory))
    ]
    total = sum(chunk.nbytes for chunk in chunks)

    def tell(done: int, note: str = "") -> None:
        if on_progress is not None:
            on_progress(LoadProgress("weights", done, total, note))

    tell(0, note)
    left = stream_chunks(chunks, kernels, threads, tell, memories)
    done = total - sum(chunk.nbytes for chunk in left)
    tell(done)
    pack_here(left, kernels, threads, lambda nbytes: tell(done + nbytes))


def pack_here(
    chunks: Sequence[Chunk], kernels: PackKernels, threads: int, on_bytes: Callable[[int], None]
) -> None:
    """Pack chunks whose bytes Python reads, or NumPy makes. on_bytes: told the bytes of the file that are
    packed, after each chunk; what it raises ends the work. Raises as `pack_matrices`."""
    if not chunks:
        return
    done = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pack-weights")
    try:
        for chunk in pool.map(lambda chunk: _packed(chunk, kernels), chunks):
            done += chunk.nbytes
            on_bytes(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _packed(chunk: Chunk, kernels: PackKernels) -> Chunk:
    """A chunk, when it is done."""
    part = chunk.part
    tensor, kind = part.tensor, part.kind
    raw = tensor.rows(chunk.rows.start, chunk.rows.stop)
    if not part.is_native:
        values = dequantize(raw, tensor.fmt)
        raw = values.view(np.uint8) if kind.floats else _q8_blocks(values, tensor.name)
    elif tensor.shape[1] % kind.columns:  # floats, the only rows that may end within a block
        more = -tensor.shape[1] % kind.columns * tensor.fmt.block_bytes
        raw = np.pad(raw, ((0, 0), (0, more)))
    # Rows that a last panel lacks are zeros in any type.
    lacking = np.zeros(raw.shape[1], dtype=np.uint8)
    addresses = np.full(chunk.panels * PANEL_ROWS, address(lacking), dtype=np.int64)
    addresses[: len(raw)] = address(raw) + np.arange(len(raw)) * raw.strides[0]
    blocks = ceil_div(tensor.shape[1], kind.columns)
    kernels.pack(kind.code, address(addresses), chunk.panels, blocks, chunk.out, part.stride)
    return chunk


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
