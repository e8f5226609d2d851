"""The disk's side of a download: is there room, and the one step that makes a file visible."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from chat_app.models.download.errors import DownloadError, retry
from chat_app.text.formatting import memory

SPARE_BYTES = 16 << 20  # left free for whatever else the machine does meanwhile


def check_space(folder: Path, needed_bytes: int, name: str) -> None:
    """Raises DownloadError when `folder`'s disk has less than `needed_bytes` (and some to spare) free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise DownloadError(
            f"The disk is too full: fetching {name} needs {memory(needed_bytes)} but "
            f"{memory(free_bytes)} are free at {folder}. Free some space. {retry(name)}"
        )


def bytes_in(folder: Path) -> int:
    """The sizes of all files below a folder into which others write meanwhile."""
    total = 0
    for here, _, names in os.walk(folder):  # passes over folders that go meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # renamed or removed between listing and looking
                total += os.lstat(os.path.join(here, name)).st_size
    return total


def place(source: Path, target: Path) -> Path:
    """Move a verified, synced file to its final name in one step, and make the move itself durable."""
    os.replace(source, target)
    if os.name == "posix":
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return target
