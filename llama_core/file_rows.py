"""Rows of bytes that stay in their file until they are asked for.

They are read, not mapped. A mapped file that is cut short ends the process (SIGBUS) when a page behind its
new end is touched; a read comes back short, which is an error that can be told. What was read from the page
cache is nobody's memory afterwards.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.errors import ModelFormatError

U8 = NDArray[np.uint8]
# Rows that are asked for by number are read in one piece, where that is at most so many times their bytes.
SPARSE = 4


class OpenFile:
    """A file that stays open as long as anything refers to it; whatever becomes of its name, the bytes are
    those of the file that was opened. size: bytes, when it was opened. descriptor: the system's number."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Takes the descriptor over."""
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self.descriptor = descriptor
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, descriptor)

    def read_into(self, out: U8, start: int) -> None:
        """Fill `out`, contiguous, from byte `start` on. Raises ModelFormatError where the file has ended by
        now, or cannot be read."""
        memory, done = out.reshape(-1).data, 0
        while done < len(memory):
            try:
                n = self._read(memory[done:], start + done)
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
                raise ModelFormatError(self.path, f"byte {start + done}", problem) from error
            if n == 0:
                problem = (
                    f"the file ends here; it had {self.size:,} bytes when it was opened and was cut short "
                    "since. Put it back whole and load the model again"
                )
                raise ModelFormatError(self.path, f"byte {start + done}", problem)
            done += n

    def _read(self, memory: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [memory], start)
        with self._lock:
            os.lseek(self.descriptor, start, os.SEEK_SET)
            data = os.read(self.descriptor, len(memory))
        memory[: len(data)] = data
        return len(data)

    def mapped(self) -> mmap.mmap:
        """All of it, mapped, for a header that is read at once; nothing may keep it.

        Raises ModelFormatError where it cannot be mapped.
        """
        try:
            return mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ModelFormatError(self.path, "file", f"cannot be mapped: {error}") from error

    def bytes(self, start: int, count: int) -> U8:
        """(count,) uint8 from byte `start` on. Raises as `read_into`."""
        out = np.empty(count, dtype=np.uint8)
        self.read_into(out, start)
        return out

    def rows(self, start: int, n_rows: int, row_bytes: int) -> FileRows:
        """`n_rows` rows of `row_bytes` that follow each other from byte `start` on."""
        return FileRows(self, start, n_rows, row_bytes, row_bytes)


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are: the descriptor of the file, which is open as long as they are there, the byte at which
    the first begins, and the bytes from one to the next."""

    descriptor: int
    start: int
    pitch: int


class FileRows:
    """(n_rows, row_bytes) uint8 in a file. A slice is rows again, unread; anything else reads:

    rows[3:7], rows[:, 16:32]   some rows, some bytes of each: FileRows
    rows[[5, 2, 5]]             the rows of these numbers, (3, row_bytes) uint8
    rows.read()                 all of them
    """

    def __init__(self, file: OpenFile, start: int, n_rows: int, row_bytes: int, stride: int) -> None:
        self._file, self._start, self._stride = file, start, stride
        self.shape = (n_rows, row_bytes)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.shape[1]

    @property
    def place(self) -> Place:
        """For code that reads them by itself."""
        return Place(self._file.descriptor, self._start, self._stride)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | tuple[slice, slice] | NDArray[np.integer]) -> FileRows | U8:
        if isinstance(index, slice):
            return self._part(index, slice(None))
        if isinstance(index, tuple):
            return self._part(*index)
        return self._of_numbers(np.asarray(index))

    def reshape(self, n_rows: int, row_bytes: int) -> FileRows:
        """The same bytes as rows of another length, n_rows being -1. Raises ValueError where they do not fit
        or do not follow each other."""
        n_rows = self.size // row_bytes
        if n_rows * row_bytes != self.size or (self._stride != self.shape[1] and len(self) > 1):
            raise ValueError(f"rows {self.shape} of a file cannot be cut into rows of {row_bytes} bytes")
        return FileRows(self._file, self._start, n_rows, row_bytes, row_bytes)

    def read(self) -> U8:
        """All rows, (n_rows, row_bytes). Raises ModelFormatError where the file was cut short meanwhile."""
        n_rows, row_bytes = self.shape
        out = np.empty(self.shape, dtype=np.uint8)
        if self._stride == row_bytes:
            self._file.read_into(out, self._start)
        else:
            for i in range(n_rows):
                self._file.read_into(out[i], self._start + i * self._stride)
        return out

    def _part(self, rows: slice, columns: slice) -> FileRows:
        first, last, step = rows.indices(self.shape[0])
        begin, end, by = columns.indices(self.shape[1])
        if step != 1 or by != 1:
            raise IndexError("rows of a file are cut without a step")
        start = self._start + first * self._stride + begin
        return FileRows(self._file, start, max(0, last - first), max(0, end - begin), self._stride)

    def _of_numbers(self, numbers: NDArray[np.integer]) -> U8:
        if len(numbers) == 0:
            return np.empty((0, self.shape[1]), dtype=np.uint8)
        first, last = int(numbers.min()), int(numbers.max()) + 1
        if first < 0 or last > len(self):
            raise IndexError(f"rows {first} to {last - 1} of {len(self)}")
        if last - first <= SPARSE * len(numbers):
            near: U8 = self._part(slice(first, last), slice(None)).read()[numbers - first]
            return near
        out = np.empty((len(numbers), self.shape[1]), dtype=np.uint8)
        for i, number in enumerate(numbers.tolist()):
            self._file.read_into(out[i], self._start + number * self._stride)
        return out


def read_rows(rows: FileRows | U8) -> U8:
    """The bytes themselves, (n_rows, row_bytes): read, or as they are where they are in memory."""
    return rows.read() if isinstance(rows, FileRows) else rows
