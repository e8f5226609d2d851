"""Chunks that compiled code reads from their file and packs by itself (`kernels/stream.py`).

That is most of a model: types with kernels of their own, whose rows stand in a file in order or changed about
within a few heads. Python only waits, tells how far it is, and says stop.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.chunks import TOGETHER, Chunk
from llama_core.backends.jit.layout import LINE_BYTES, PANEL_ROWS, ceil_div
from llama_core.backends.jit.pieces import Piece, Stream, Worker
from llama_core.backends.jit.record import Table
from llama_core.file_rows import FileRows

# Read and packed at a time: half of it is left of a core's cache for what is written meanwhile.
STEP_BYTES = 256 << 10
# How often the caller hears of progress, and may cancel.
TELL_S = 0.02
# Rows that are further apart than so many times their bytes are read one by one, which Python does.
SPARSE = 4


class PackKernels(Protocol):
    """What of a `Library` packs; neither holds the interpreter's lock."""

    pack: Callable[..., Any]
    stream: Callable[..., Any]


def stream_chunks(
    chunks: Sequence[Chunk],
    kernels: PackKernels,
    threads: int,
    on_bytes: Callable[[int], None],
    memories: Sequence[object] = (),
) -> list[Chunk]:
    """Pack those that can be streamed; returns the others, and those whose bytes did not come whole.

    on_bytes: told the bytes of the file that are packed, now and then; what it raises ends the work.
    memories: own what the chunks are packed into; they live as long as any thread that writes there.
    """
    read = _read_function()
    if read is None:
        return list(chunks)
    orders = _RowNumbers()
    planned = [(chunk, orders.numbers(chunk)) for chunk in chunks]
    streamed = [(chunk, numbers) for chunk, numbers in planned if numbers is not None]
    if not streamed:
        return list(chunks)
    pieces = Table(Piece, len(streamed))
    for i, (chunk, numbers) in enumerate(streamed):
        _describe(pieces[i], chunk, address(numbers))
    shared = Stream(np.zeros(Stream.nbytes // 8, dtype=np.int64)[:: Stream.spacing // 8])
    workers, memory = _workers(pieces, threads)
    # A second Ctrl+C ends the waiting below, but not a thread that waits for a slow disk.
    keep = (kernels, pieces, streamed, shared, workers, memory, memories)
    helpers = [
        threading.Thread(
            target=_stream,
            args=(kernels, pieces.address(), len(pieces), shared.address, workers.address(i), read, keep),
            name=f"pack-weights-{i}",
        )
        for i in range(threads)
    ]
    began = []
    try:
        for helper in helpers:
            helper.start()
            began.append(helper)
        for helper in helpers:
            while helper.is_alive():
                helper.join(TELL_S)
                on_bytes(shared.read_bytes)
    finally:
        shared.stop = 1
        for helper in began:
            helper.join()
    done = {chunk for i, (chunk, _) in enumerate(streamed) if pieces[i].is_packed}
    return [chunk for chunk in chunks if chunk not in done]


def _stream(
    kernels: PackKernels, pieces: int, count: int, shared: int, worker: int, read: int, keep: object
) -> None:
    """A thread's work; keep: what the addresses point to."""
    kernels.stream(pieces, count, shared, worker, read)


def _read_function() -> int | None:
    """Address of C's `pread` with 64-bit places; None for a system without it."""
    if not hasattr(os, "pread") or sys.maxsize < 1 << 32:
        return None
    return ctypes.cast(ctypes.CDLL(None).pread, ctypes.c_void_p).value


def _at_once(chunk: Chunk) -> int:
    """Panels of a step."""
    panels = max(1, STEP_BYTES // (PANEL_ROWS * chunk.part.tensor.raw.shape[1]))
    if chunk.part.tensor.row_order is not None:
        panels = ceil_div(panels, TOGETHER) * TOGETHER
    return int(min(panels, chunk.panels))


class _RowNumbers:
    """For each row of a chunk its number within its step; equal chunks of all layers share one array."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int, int, int], NDArray[np.int64] | None] = {}

    def numbers(self, chunk: Chunk) -> NDArray[np.int64] | None:
        """(panels * 16,), -1 for rows that a last panel lacks; None for a chunk that cannot be streamed."""
        tensor = chunk.part.tensor
        raw = tensor.raw
        if not isinstance(raw, FileRows) or not chunk.part.is_native or tensor.column_order is not None:
            return None
        if tensor.shape[1] % chunk.part.kind.columns or raw.place.pitch > SPARSE * raw.shape[1]:
            return None
        order = tensor.row_order
        key = (0, 0) if order is None else (id(order), chunk.first)
        whole = (*key, chunk.n_rows, _at_once(chunk))
        if whole not in self._made:
            self._made[whole] = _numbers(order, chunk)
        return self._made[whole]


def _numbers(order: NDArray[np.intp] | None, chunk: Chunk) -> NDArray[np.int64] | None:
    in_step = _at_once(chunk) * PANEL_ROWS
    own = np.arange(chunk.n_rows)
    steps = own - own % in_step
    if order is not None:
        own = order[chunk.rows] - chunk.rows.start
        if (own - own % in_step != steps).any():  # a row of another step's
            return None
    numbers = np.full(chunk.panels * PANEL_ROWS, -1, dtype=np.int64)
    numbers[: chunk.n_rows] = own - steps
    return numbers


def _describe(piece: Piece, chunk: Chunk, numbers: int) -> None:
    """Fill in a chunk's record. numbers: the address of its rows' numbers."""
    part = chunk.part
    raw = part.tensor.raw
    assert isinstance(raw, FileRows)
    place = raw.place
    piece.set(
        descriptor=place.descriptor,
        start=place.start + chunk.rows.start * place.pitch,
        pitch=place.pitch,
        row_bytes=raw.shape[1],
        n_rows=chunk.n_rows,
        numbers=numbers,
        kind=part.kind.code,
        panels=chunk.panels,
        at_once=_at_once(chunk),
        blocks=part.tensor.shape[1] // part.kind.columns,
        out=chunk.out,
        stride=part.stride,
    )


def _workers(pieces: Table[Piece], threads: int) -> tuple[Table[Worker], Arena]:
    """Each thread's memory, and what owns it."""
    at_once, pitch = pieces.column(Piece.at_once), pieces.column(Piece.pitch)
    most_rows = PANEL_ROWS * int(at_once.max())
    most_bytes = PANEL_ROWS * int((at_once * pitch).max())
    row_bytes = int(pieces.column(Piece.row_bytes).max())
    each = 8 * most_rows + most_bytes + 3 * LINE_BYTES
    arena = Arena(threads * each + row_bytes + LINE_BYTES, huge=False)
    zeros = address(arena.take(row_bytes))
    workers = Table(Worker, threads)
    for i in range(threads):
        rows, buffer = address(arena.words(most_rows)), address(arena.take(most_bytes))
        workers[i].set(rows=rows, buffer=buffer, zeros=zeros)
    return workers, arena
