"""Two ways to write that a crash cannot spoil: append one line, or replace a whole file at once.

Files are made 0600; a link in a file's place is never followed. Chats are not written here (chats.db is).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

# Memory cards and some network disks have no second names for a file.
_NO_LINKS: Final = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
# Windows has neither the flag against following links nor close-on-exec, but needs binary mode.
_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class AppendFile:
    """A file that only grows, by whole lines. One writer at a time: the caller holds the lock.

    A line is durable when `append` returns. After a failure nothing of the line counts: the file is cut back
    at once or, where that fails too, before the next line. A failed fsync is treated the same way, because
    the system may have dropped the pages and would call a second fsync of them a success.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cut_back_to: int | None = None
        self._name_is_durable = False

    def append(self, line: bytes, *, create: bool = True) -> None:
        """Add one line, which ends with a newline, and sync it. Raises OSError; a retry is then safe."""
        fd = _open(self.path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
        try:
            self._cut_back(fd)
            size = os.fstat(fd).st_size
            # Another program (an editor, say) may have left a last line without its end.
            if size and _last_byte(fd, size) != b"\n":
                line = b"\n" + line
            self._cut_back_to = size
            try:
                _write_all(fd, line)
                os.fsync(fd)
                if not self._name_is_durable:
                    sync_folder(self.path.parent)
            except OSError:
                with contextlib.suppress(OSError):  # the failure itself is what the caller must hear of
                    self._cut_back(fd)
                raise
            self._cut_back_to = None
            self._name_is_durable = True
        finally:
            _close(fd)

    def truncate(self, size: int) -> None:
        """Cut a damaged end off, durably. Raises OSError."""
        fd = _open(self.path, os.O_RDWR)
        try:
            self._cut_back_to = size
            self._cut_back(fd)
        finally:
            _close(fd)

    def _cut_back(self, fd: int) -> None:
        size = self._cut_back_to
        if size is None:
            return
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
            os.fsync(fd)
        self._cut_back_to = None


def write_new(path: Path, data: bytes) -> None:
    """Write and sync a file that must not exist yet; on failure no part of it stays. Raises OSError."""
    fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            _close(fd)
    except OSError:
        with contextlib.suppress(OSError):  # the failure itself is what the caller must hear of
            os.unlink(path)
        raise


def replace_file(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Put `data` at `path` so that at any moment the old or the new content is there, whole.

    Raises OSError (FileExistsError where `overwrite` is off and the name is taken); the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    write_new(temporary, data)
    try:
        if overwrite:
            os.replace(temporary, path)
        else:
            _put_in_place(temporary, path, data)
            with contextlib.suppress(OSError):  # the file is in place; its other name is only untidy
                os.unlink(temporary)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def replace_content(path: Path, text: str) -> None:
    """Put `text` in place of what a file of the user's holds, in UTF-8. Its mode stays, and a link to it.

    Raises OSError; the old content is still there then.
    """
    place = path.resolve()
    mode = stat.S_IMODE(place.stat().st_mode)
    replace_file(place, text.encode())
    place.chmod(mode)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable (Windows has no such call; its journal does it). Raises OSError."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def why_unwritable(path: Path) -> str | None:
    """Why results cannot be written to `path`, None where they can; found out by trying, without a trace."""
    try:
        if not path.exists():
            if not path.parent.is_dir():
                return f"there is no folder {path.parent} to write the results to"
            # Not the file itself: to take it away again could take what another program has put into it.
            tempfile.TemporaryFile(dir=path.parent).close()
        elif path.is_file():
            path.open("ab").close()  # asking for permission says yes on a read-only disk, and to root
        else:
            return f"{path} is no ordinary file; the results need one"
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return None


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | _FLAGS, 0o600)


def _last_byte(fd: int, size: int) -> bytes:
    os.lseek(fd, size - 1, os.SEEK_SET)
    return os.read(fd, 1)


def _write_all(fd: int, data: bytes) -> None:
    """Write every byte: normally one call; a short write goes on with the rest."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _close(fd: int) -> None:
    # What matters is synced before; after a failed close the descriptor is gone and must not be closed again.
    with contextlib.suppress(OSError):
        os.close(fd)


def _put_in_place(temporary: Path, path: Path, data: bytes) -> None:
    """Give a finished file its name unless the name is taken (FileExistsError)."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        write_new(path, data)
