"""Two ways to write that a crash cannot spoil: append one line, or replace a whole file at once."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again

# Memory cards and some network disks have no second names for a file.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


def _write_all(fs: FileSystem, fd: int, data: bytes) -> None:
    """Write every byte: normally one call; a short write goes on with the rest."""
    rest = memoryview(data)
    while rest:
        rest = rest[again(lambda left=rest: fs.write(fd, bytes(left))) :]  # type: ignore[misc]


def _close(fs: FileSystem, fd: int) -> None:
    # What matters is synced before; after a failed close the descriptor is gone and must not be closed again.
    with contextlib.suppress(OSError):
        fs.close(fd)


def make_folder(path: Path, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
    """Create a folder and its missing parents for this user alone, each durable before the next. OSError."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent, fs)
    with contextlib.suppress(FileExistsError):
        again(lambda: fs.mkdir(path))
    again(lambda: fs.sync_folder(path.parent))


class AppendFile:
    """A file that only grows, by whole lines. One writer at a time: the caller holds the lock.

    A line is durable when `append` returns. After a failure nothing of the line counts: the file is cut back
    at once or, where that fails too, before the next line. A failed fsync is treated the same way, because
    the system may have dropped the pages and would call a second fsync of them a success.
    """

    def __init__(self, path: Path, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
        self.path = path
        self._fs = fs
        self._cut_back_to: int | None = None
        self._name_is_durable = False

    def append(self, line: bytes, *, create: bool = True) -> None:
        """Add one line, which ends with a newline, and sync it. Raises OSError; a retry is then safe."""
        fs = self._fs
        fd = again(lambda: fs.open(self.path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)))
        try:
            self._cut_back(fd)
            size = again(lambda: fs.size(fd))
            # Another program (an editor, say) may have left a last line without its end.
            if size and again(lambda: fs.read_at(fd, size - 1, 1)) != b"\n":
                line = b"\n" + line
            self._cut_back_to = size
            try:
                _write_all(fs, fd, line)
                again(lambda: fs.fsync(fd))
                if not self._name_is_durable:
                    again(lambda: fs.sync_folder(self.path.parent))
            except OSError:
                with contextlib.suppress(OSError):  # the failure itself is what the caller must hear of
                    self._cut_back(fd)
                raise
            self._cut_back_to = None
            self._name_is_durable = True
        finally:
            _close(fs, fd)

    def truncate(self, size: int) -> None:
        """Cut a damaged end off, durably. Raises OSError."""
        fd = again(lambda: self._fs.open(self.path, os.O_RDWR))
        try:
            self._cut_back_to = size
            self._cut_back(fd)
        finally:
            _close(self._fs, fd)

    def _cut_back(self, fd: int) -> None:
        size = self._cut_back_to
        if size is None:
            return
        if again(lambda: self._fs.size(fd)) > size:
            again(lambda: self._fs.truncate(fd, size))
            again(lambda: self._fs.fsync(fd))
        self._cut_back_to = None


def write_new(path: Path, data: bytes, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
    """Write and sync a file that must not exist yet; on failure no part of it stays. Raises OSError."""
    fd = again(lambda: fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        try:
            _write_all(fs, fd, data)
            again(lambda: fs.fsync(fd))
        finally:
            _close(fs, fd)
    except OSError:
        with contextlib.suppress(OSError):  # the failure itself is what the caller must hear of
            again(lambda: fs.unlink(path))
        raise


def _put_in_place(fs: FileSystem, temporary: Path, path: Path, data: bytes) -> None:
    """Give a finished file its name unless the name is taken (FileExistsError)."""
    try:
        again(lambda: fs.link(temporary, path))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        write_new(path, data, fs)


def replace_file(
    path: Path, data: bytes, fs: FileSystem = REAL_FILE_SYSTEM, *, overwrite: bool = True
) -> None:
    """Put `data` at `path` so that at any moment the old or the new content is there, whole.

    Raises OSError (FileExistsError where `overwrite` is off and the name is taken); the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    write_new(temporary, data, fs)
    try:
        if overwrite:
            again(lambda: fs.replace(temporary, path))
        else:
            _put_in_place(fs, temporary, path, data)
            with contextlib.suppress(OSError):  # the file is in place; its other name is only untidy
                again(lambda: fs.unlink(temporary))
    except OSError:
        with contextlib.suppress(OSError):
            again(lambda: fs.unlink(temporary))
        raise
    again(lambda: fs.sync_folder(path.parent))
