"""Files that are run or believed: read only where nobody else can have written them.

A hash inside a file proves nothing against whoever writes the file. What counts is who could:

    the file        a regular one, no link; ours or root's; not writable by its group or by others
    every folder    from the root down to it: a folder, no link; ours or root's; not writable by its group or
                    by others, sticky ones (/tmp) neither

Each folder is opened from the one above it and judged by its descriptor, and so is the file, so that nothing
can be exchanged between the look and the reading. One link is followed: the system's own directly below the
root (/home, or macOS's /var), which stands in a folder that only root can write.

Where a system has no such calls (Windows), the user's own folders are protected by other means: files are
read as they are.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CHECKS = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# To go through a folder one need not be allowed to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# A pipe is opened without waiting for who writes to it.
_FILE = getattr(os, "O_NONBLOCK", 0) | _NO_LINK
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFileError(Exception):
    """Someone else could have written a file. The message is a sentence that says which part of its path is
    to blame, and what would help."""


def read_trusted(path: Path) -> bytes:
    """The content of a file that only we, or root, can have written. Raises as `open_trusted` does."""
    with open_trusted(path) as file:
        return file.readall()


def open_trusted(path: Path, *, write: bool = False) -> io.FileIO:
    """A file that only we, or root, can have written, to read; to read and `write`, and made where there is
    none, for us alone.

    Raises UntrustedFileError where others could write it, OSError where it cannot be opened
    (FileNotFoundError: there is none).
    """
    flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
    mode = "r+b" if write else "rb"
    if not _CHECKS:
        return io.FileIO(os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600), mode)
    path = _absolute(path)
    with _folder(path.parent) as folder:
        try:
            descriptor = os.open(path.name, flags | _FILE, 0o600, dir_fd=folder)
        except OSError:
            _refuse_link(path, folder)
            raise
    try:
        _check(path, os.fstat(descriptor), stat.S_ISREG, "no regular file")
        return io.FileIO(descriptor, mode)
    except BaseException:  # Ctrl+C too: no descriptor stays open
        os.close(descriptor)
        raise


def require_trusted_folder(path: Path) -> None:
    """Raises UntrustedFileError where someone else can write into a folder, FileNotFoundError where there is
    none."""
    if _CHECKS:
        with _folder(_absolute(path)):
            pass


def make_private_folder(path: Path) -> None:
    """A folder of ours, and what is missing above it, each writable by us alone: what a umask of 002 would
    leave to the group would not be trusted again. What is there stays as it is. Raises OSError."""
    for missing in reversed([one for one in path.parents if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)  # raises where a file stands in the way


def _absolute(path: Path) -> Path:
    """From the root, with the system's own link at its beginning followed."""
    path = Path(os.path.abspath(path))
    if len(path.parts) > 1:
        first = Path(*path.parts[:2])
        if first.is_symlink() and first.lstat().st_uid == 0:
            return first.resolve().joinpath(*path.parts[2:])
    return path


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """A descriptor of the folder, which is judged with all above it."""
    here = Path(path.anchor)
    descriptor = os.open(here, _FOLDER)
    try:
        _check(here, os.fstat(descriptor), stat.S_ISDIR, "no folder")
        for name in path.parts[1:]:
            here /= name
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            except OSError:
                _refuse_link(here, descriptor)
                raise
            os.close(descriptor)
            descriptor = below
            _check(here, os.fstat(descriptor), stat.S_ISDIR, "no folder")
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_link(path: Path, folder: int) -> None:
    """Raises UntrustedFileError where what could not be opened is a link."""
    try:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise UntrustedFileError(f"{path} is a link; a real file or folder in its place would do")


def _check(path: Path, found: os.stat_result, is_kind: Callable[[int], bool], otherwise: str) -> None:
    if not is_kind(found.st_mode):
        raise UntrustedFileError(f"{path} is {otherwise}")
    if found.st_uid not in (0, os.geteuid()):
        raise UntrustedFileError(f"{path} belongs to another user (number {found.st_uid})")
    if found.st_mode & _WRITABLE_BY_OTHERS:
        # A sticky folder is shared by intent: nobody should be told to close /tmp.
        shared = found.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode)
        remedy = "a place outside it would do" if shared else "chmod go-w would mend it"
        raise UntrustedFileError(f"{path} can be written by others; {remedy}")
