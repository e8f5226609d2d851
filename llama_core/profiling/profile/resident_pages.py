"""What part of some memory the system holds in RAM: pages that were never touched take none."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resident_part(arrays: Iterable[NDArray[Any]]) -> int:
    """Bytes of the pages under `arrays` (which share none) that are in memory; 0 where the system does not
    tell: this asks Linux (mincore(2))."""
    if not sys.platform.startswith("linux"):
        return 0
    libc: Any = ctypes.CDLL(None)
    total = 0
    for array in arrays:
        first = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        n_bytes = array.ctypes.data + array.nbytes - first
        pages = np.zeros(-(-n_bytes // mmap.PAGESIZE), dtype=np.uint8)
        address = ctypes.c_void_p(pages.ctypes.data)
        if libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(n_bytes), address) == 0:
            total += int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE
    return total


def mapped_file_bytes(path: Path) -> int:
    """How much of this process's resident size are pages of a file; 0 where the system does not tell."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError, AttributeError):  # macOS has no such list
        name = str(path.resolve())
        return sum(int(part.rss) for part in psutil.Process().memory_maps() if part.path == name)
    return 0
