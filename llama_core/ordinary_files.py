"""Files that other hands put somewhere, read without waiting: a named pipe or a device in a file's place is
told as an error.

Opening a named pipe waits for whoever writes to it, which may be nobody; a device may have no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_ordinary(path: Path) -> BinaryIO:
    """The regular file at `path`, or behind a link there, to read from. Raises OSError where it is none."""
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:  # a path with a NUL in it
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        _require_regular(path, os.fstat(descriptor))
        return open(descriptor, "rb")
    except BaseException:  # Ctrl+C too: no descriptor stays open
        os.close(descriptor)
        raise


def read_ordinary(path: Path, max_bytes: int = -1) -> bytes:
    """The first `max_bytes` bytes of the regular file at `path`, or all of it. Raises OSError."""
    with open_ordinary(path) as file:
        return file.read(max_bytes)


def require_ordinary(path: Path) -> None:
    """Raises OSError where something other than a regular file stands at `path`, or nothing."""
    _require_regular(path, os.stat(path))


def _require_regular(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "It is a pipe or a device, and no ordinary file", str(path))
