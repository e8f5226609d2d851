"""The folder of the files with keys and values: their names, what they take together, and who goes first.

    <chat>.<key>.kv     one chat with one model, as it is set (`keeper.model_key`)
    lock                held by the process that writes

A file's time is when it was last used. Where all take more than the limit, the oldest are removed.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_app.files.process_lock import ProcessLock
from llama_core.trusted_files import make_private_folder, open_trusted, require_trusted_folder

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,80}")
# How long a process waits for another that writes. What it waits for takes a second, and nobody waits for it.
_TURN_S = 10.0
# A disk is not filled beyond this with what can be computed again.
FREE_BYTES = 1 << 30


def file_stem(chat_id: str) -> str:
    """What the names of a chat's files begin with; ids that came from elsewhere may hold anything."""
    return chat_id if _SAFE.fullmatch(chat_id) else hashlib.sha256(chat_id.encode()).hexdigest()[:40]


def remove_kv_files(folder: Path, chat_id: str) -> None:
    """Remove what is kept of a chat, for all models. Never raises: what cannot be removed now goes when it is
    the oldest."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{glob.escape(file_stem(chat_id))}.*.kv"):
            with contextlib.suppress(OSError):
                path.unlink()


class KvFolder:
    """Files of one key (64 hex digits) in `folder`. Only those that nobody else can have written are opened.
    limit_bytes: what the files of all keys may take together."""

    def __init__(self, folder: Path, key: str, limit_bytes: int) -> None:
        self._folder = folder
        self.key = bytes.fromhex(key)
        self._ending = f".{key[:16]}.kv"
        self.limit_bytes = limit_bytes

    def path(self, chat_id: str) -> Path:
        """Where a chat's file is, if there is one."""
        return self._folder / f"{file_stem(chat_id)}{self._ending}"

    def paths(self) -> list[Path]:
        """All files of this key, the last used first."""
        return [path for path, _, _ in reversed(self._by_age()) if path.name.endswith(self._ending)]

    def open(self, path: Path) -> io.FileIO:
        """A file to read. Raises OSError, UntrustedFileError."""
        return open_trusted(path)

    @contextmanager
    def writing(self, path: Path) -> Iterator[io.FileIO | None]:
        """A file to write, made where there is none; None where another process writes for too long. Raises
        OSError, UntrustedFileError."""
        make_private_folder(self._folder)
        require_trusted_folder(self._folder)
        lock = ProcessLock(self._folder / "lock")
        if not lock.acquire(_TURN_S):
            yield None
            return
        try:
            with open_trusted(path, write=True) as file:
                yield file
        finally:
            lock.release()

    def has_room(self, size: int, more: int) -> bool:
        """Whether a file of `size` bytes, `more` of them new, may stand here. Raises OSError."""
        return size <= self.limit_bytes and shutil.disk_usage(self._folder).free >= more + FREE_BYTES

    def used(self, path: Path) -> None:
        """It is the last used from now on. Never raises."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def remove(self, path: Path) -> None:
        """Never raises."""
        with contextlib.suppress(OSError):
            path.unlink()

    def make_room(self, keep: Path) -> None:
        """Remove the files that were not used for longest until the rest is within the limit; `keep` goes
        last. Never raises."""
        known = self._by_age()
        total = sum(size for _, size, _ in known)
        for path, size, _ in sorted(known, key=lambda one: one[0] == keep):
            if total <= self.limit_bytes:
                return
            self.remove(path)
            total -= size

    def _by_age(self) -> list[tuple[Path, int, float]]:
        """(path, bytes, time) of the files of all keys, the oldest first."""
        found: list[tuple[Path, int, float]] = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".kv"):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((Path(entry.path), status.st_size, status.st_mtime))
        return sorted(found, key=lambda one: one[2])
