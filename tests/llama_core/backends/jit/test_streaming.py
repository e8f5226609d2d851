"""What compiled code reads from a file by itself is what Python would have read."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.jit import chunks, streaming
from llama_core.backends.jit.chunks import cut
from llama_core.backends.jit.packing import pack_matrices
from llama_core.backends.jit.pieces import Stream
from llama_core.backends.jit.plan import NATIVE, PackedMatrix
from llama_core.backends.jit.streaming import stream_chunks
from llama_core.checkpoint import Tensor
from llama_core.errors import Cancelled, ModelFormatError
from llama_core.events import LoadProgress
from llama_core.file_rows import FileRows
from llama_core.loaders.cursor import open_file
from llama_core.loaders.tensors import interleaved_rows
from llama_core.quant.table import BY_NAME
from tests.llama_core.backends.jit.conftest import aligned

U8 = NDArray[np.uint8]
START = 1234  # byte of the file where a tensor begins
ROWS, COLUMNS = 16 * 37 + 5, 512


def in_file(path: Path, fmt: str, order: NDArray[np.intp] | None = None, rows: int = ROWS) -> Tensor:
    """Random blocks in a file of their own."""
    row_bytes = BY_NAME[fmt].row_bytes(COLUMNS)
    raw = np.random.default_rng(7).integers(0, 256, (rows, row_bytes), dtype=np.uint8)
    path.write_bytes(bytes(START) + raw.tobytes() + b"what follows")
    return Tensor(fmt, (rows, COLUMNS), BY_NAME[fmt], open_file(path).rows(START, rows, row_bytes), order)


def in_memory(tensor: Tensor) -> Tensor:
    """The same, already read: Python packs it."""
    assert isinstance(tensor.raw, FileRows)
    return Tensor(tensor.name, tensor.shape, tensor.fmt, tensor.raw.read(), tensor.row_order)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of at most 16 panels, and several steps a chunk."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(streaming, "STEP_BYTES", 20_000)


@pytest.fixture
def kernels(kernels_of: Callable[[str], Any]) -> Any:
    return kernels_of("portable")


def packed(tensor: Tensor, kernels: Any, on_progress: Callable[[LoadProgress], None] | None = None) -> U8:
    matrix = PackedMatrix(((tensor,),))
    memory = aligned(matrix.nbytes, np.uint8)
    pack_matrices([matrix], [memory], kernels, 2, on_progress)
    return memory


def left_of(tensor: Tensor, kernels: Any) -> tuple[int, int]:
    """How many chunks there are, and how many compiled code leaves."""
    matrix = PackedMatrix(((tensor,),))
    memory = aligned(matrix.nbytes, np.uint8)
    whole = [chunk for part in matrix.parts for chunk in cut(part, memory.ctypes.data)]
    return len(whole), len(stream_chunks(whole, kernels, 2, lambda _: None))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("fmt", NATIVE)
def test_a_file_is_packed_as_its_bytes_in_memory(
    tmp_path: Path, kernels: Any, fmt: str, ordered: bool
) -> None:
    """Of each type; the last panel lacks rows; rows in order, or changed about within heads of 64."""
    rows, order = (16 * 40, interleaved_rows(10, 64, 64)) if ordered else (ROWS, None)
    tensor = in_file(tmp_path / "file", fmt, order, rows)
    n_chunks, left = left_of(tensor, kernels)
    assert n_chunks > 1
    assert left == 0
    told: list[LoadProgress] = []
    ours = packed(tensor, kernels, told.append)
    np.testing.assert_array_equal(ours, packed(in_memory(tensor), kernels))
    assert told[-1].done_bytes == told[-1].total_bytes == tensor.nbytes


def test_rows_that_are_apart_in_the_file(tmp_path: Path, kernels: Any) -> None:
    """As where two tensors stand side by side."""
    whole = in_file(tmp_path / "file", "Q8_0", rows=100)
    part = Tensor("half", (100, COLUMNS // 2), whole.fmt, whole.raw[:, 17 * 16 : 17 * 32])
    assert left_of(part, kernels)[1] == 0
    np.testing.assert_array_equal(packed(part, kernels), packed(in_memory(part), kernels))


def test_what_cannot_be_streamed_is_left_to_python(tmp_path: Path, kernels: Any) -> None:
    """Rows from all over the tensor; a type without kernels; bytes in memory; a system without `pread`."""
    order = np.random.default_rng(1).permutation(ROWS)
    for number, tensor in enumerate(
        (
            in_file(tmp_path / "far", "Q4_K", order),
            in_file(tmp_path / "rare", "IQ3_S"),
            in_memory(in_file(tmp_path / "memory", "Q4_K")),
        )
    ):
        n_chunks, left = left_of(tensor, kernels)
        assert left == n_chunks, number
    far = in_file(tmp_path / "far", "Q4_K", order)
    np.testing.assert_array_equal(packed(far, kernels), packed(in_memory(far), kernels))


def test_without_pread_python_reads(tmp_path: Path, kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = in_file(tmp_path / "file", "Q6_K")
    streamed = packed(tensor, kernels)
    monkeypatch.delattr(os, "pread", raising=False)
    n_chunks, left = left_of(tensor, kernels)
    assert left == n_chunks
    np.testing.assert_array_equal(packed(tensor, kernels), streamed)


def test_a_file_cut_short_is_told(tmp_path: Path, kernels: Any) -> None:
    """The error is that of reading, with the file and the advice; no byte of what is missing is made up."""
    path = tmp_path / "file"
    tensor = in_file(path, "Q4_K")
    os.truncate(path, START + tensor.nbytes // 2)
    with pytest.raises(ModelFormatError, match="was cut short since"):
        packed(tensor, kernels)


def test_cancelling_ends_the_threads(tmp_path: Path, kernels_of: Callable[[str], Any]) -> None:
    """What the caller raises passes through, and nobody packs on behind its back."""
    tensor = in_file(tmp_path / "file", "Q4_K")
    stopped: list[int] = []
    told: list[LoadProgress] = []

    def stream(pieces: int, count: int, shared: int, worker: int, read: int) -> None:
        """A slow disk: looks for the word `stop` as the kernel does."""
        stop = ctypes.c_int64.from_address(shared + Stream.stop.offset)
        while not stop.value:
            time.sleep(0.001)
        stopped.append(1)

    def cancel(progress: LoadProgress) -> None:
        told.append(progress)
        if len(told) > 1:  # the first comes before any thread
            raise Cancelled

    with pytest.raises(Cancelled):
        packed(tensor, SimpleNamespace(stream=stream), cancel)
    assert len(stopped) == 2
    assert not [t for t in threading.enumerate() if t.name.startswith("pack-weights")]


def test_a_stopped_stream_begins_no_step(tmp_path: Path, kernels: Any) -> None:
    """The kernel's own look at the word."""
    tensor = in_file(tmp_path / "file", "Q4_K")
    matrix = PackedMatrix(((tensor,),))
    memory = aligned(matrix.nbytes, np.uint8)

    def stopped(pieces: int, count: int, shared: int, worker: int, read: int) -> None:
        ctypes.c_int64.from_address(shared + Stream.stop.offset).value = 1
        kernels.stream(pieces, count, shared, worker, read)

    whole = [chunk for part in matrix.parts for chunk in cut(part, memory.ctypes.data)]
    left = stream_chunks(whole, SimpleNamespace(stream=stopped), 2, lambda _: None)
    assert left == whole
    assert not memory.any()
