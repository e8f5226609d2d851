"""The system calls that durability rests on, in one place, so that tests can make any of them fail.

Every method raises OSError as the system does. Callers put each call through `again`: Python repeats calls
that its own signals interrupt, but a network or FUSE file system may report an interruption itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Windows has neither the flag against following links nor close-on-exec, but needs binary mode.
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def again(call: Callable[[], T]) -> T:
    """Make a call, and make it again as long as a signal interrupts it."""
    while True:
        try:
            return call()
        except InterruptedError:
            continue


class FileSystem:
    """The real one. Files are made 0600 and folders 0700; links in a file's place are never followed."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | _ALWAYS, 0o600)

    def write(self, fd: int, data: bytes) -> int:
        """How many bytes were taken; it may be fewer than were given."""
        return os.write(fd, data)

    def read_at(self, fd: int, offset: int, size: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file; FileExistsError where the name is taken, which no rename can promise."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable. Windows offers no such call; its journal does it."""
        if os.name == "nt":
            return
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _ALWAYS)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


REAL_FILE_SYSTEM = FileSystem()
