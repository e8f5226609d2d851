"""Reading little-endian numbers and strings from a mapped file without ever trusting a length in it."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.errors import ModelFormatError
from llama_core.file_rows import OpenFile

U64 = struct.Struct("<Q")
# Of more strings than these, `skim` reads only how long they are.
SKIMMED_STRINGS = 1000


def quoted(text: str, limit: int = 80) -> str:
    """`text` from a file as it may stand in a message: ASCII, escaped, cut to `limit` characters."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def open_file(path: Path) -> OpenFile:
    """The file, opened to read. Raises ModelFormatError where the path is no readable regular file, or the
    file is empty."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFormatError(path, "file", f"cannot be opened: {reason}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(path, "file", "is no regular file")
        if status.st_size == 0:
            raise ModelFormatError(path, "byte 0", "the file is empty")
    except ModelFormatError:
        os.close(fd)
        raise
    return OpenFile(path, fd)


class Skipped:
    """Stands for an array of strings that was passed over; has its length."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class Cursor:
    """A position in a mapped file. Every read first checks that its bytes are there.

    skim: long arrays of strings are passed over, for readers who want to know of a tokenizer, not to use it:
    its 100,000 strings take as long as all else in a header together.
    """

    def __init__(self, path: Path, data: mmap.mmap, position: int = 0, *, skim: bool = False) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = position
        self.skim = skim

    def error(self, problem: str, at: int | None = None) -> ModelFormatError:
        """An error for the caller to raise, with the byte `at` which it is (the present one)."""
        return ModelFormatError(self.path, f"byte {self.position if at is None else at}", problem)

    def need(self, n_bytes: int, what: str) -> None:
        """Raise unless `n_bytes` remain."""
        left = self.size - self.position
        if n_bytes > left:
            raise self.error(f"{what} needs {n_bytes:,} bytes but {left:,} remain")

    def scalar(self, layout: struct.Struct, what: str) -> Any:
        """One number."""
        self.need(layout.size, what)
        (value,) = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return value

    def string(self, what: str) -> str:
        """A 64-bit length and that many bytes; what is no UTF-8 decodes with "surrogateescape"."""
        length = self.scalar(U64, f"the length of {what}")
        self.need(length, what)
        start = self.position
        self.position = start + length
        return self.data[start : self.position].decode("utf-8", "surrogateescape")

    def strings(self, count: int, what: str) -> list[str] | Skipped:
        """`count` strings one after another; a tokenizer has 100,000 of them, hence the bare loop."""
        skim = self.skim and count > SKIMMED_STRINGS
        if count * U64.size > self.size - self.position:
            self.need(count * U64.size, f"{what} of {count:,} strings")
        data, size, position = self.data, self.size, self.position
        unpack, width = U64.unpack_from, U64.size
        texts: list[str] = []
        append = texts.append
        for index in range(count):
            start = position + width
            if start > size:
                raise self.error(f"{what} is cut off in string {index:,} of {count:,}", position)
            (length,) = unpack(data, position)
            position = start + length
            if position > size:
                raise self.error(f"string {index:,} of {what} claims {length:,} bytes", start - width)
            if not skim:
                append(data[start:position].decode("utf-8", "surrogateescape"))
        self.position = position
        return Skipped(count) if skim else texts

    def array(self, dtype: str, count: int, what: str) -> NDArray[Any]:
        """(count,) numbers of `dtype`, copied out of the file and read-only."""
        n_bytes = count * np.dtype(dtype).itemsize
        self.need(n_bytes, f"{what} of {count:,} numbers")
        values = np.frombuffer(self.data[self.position : self.position + n_bytes], dtype=dtype)
        self.position += n_bytes
        return values
