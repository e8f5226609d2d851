"""Aligned memory for packed weights and scratch."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.layout import LINE_BYTES, ceil_div
from llama_core.memory import private_memory

HUGE_PAGE = 2 << 20


class Arena:
    """One block of zeroed memory, in huge pages where the system gives them, handed out piece by piece.

    With 4 KiB pages a stream of 96 MB needs 24,000 translations per token; huge pages need 48.
    """

    def __init__(self, nbytes: int, *, huge: bool) -> None:
        padding = HUGE_PAGE if huge else LINE_BYTES
        self._map = private_memory(nbytes + padding)
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(self._map, dtype=np.uint8)
        start = -whole.ctypes.data % padding
        self.bytes: NDArray[np.uint8] = whole[start : start + nbytes]
        self._used = 0

    @property
    def nbytes(self) -> int:
        """Size of the whole block, whether handed out or not."""
        return len(self.bytes)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """The next piece as (nbytes,) uint8, starting on a cache line. Raises ValueError for too many."""
        start = self._used
        if start + nbytes > len(self.bytes):
            raise ValueError(f"the arena of {len(self.bytes)} bytes has no room for {nbytes} more")
        self._used = start + whole_lines(nbytes)
        return self.bytes[start : start + nbytes]

    def floats(self, count: int) -> NDArray[np.float32]:
        """The next piece as (count,) float32, zeroed."""
        return self.take(4 * count).view(np.float32)

    def words(self, count: int) -> NDArray[np.int64]:
        """The next piece as (count,) int64, zeroed."""
        return self.take(8 * count).view(np.int64)


def whole_lines(nbytes: int) -> int:
    """The bytes of the cache lines that so many bytes begin."""
    return LINE_BYTES * ceil_div(nbytes, LINE_BYTES)


def address(array: NDArray[np.generic]) -> int:
    """Where an array's first byte is. The caller keeps the array alive."""
    return int(array.ctypes.data)
