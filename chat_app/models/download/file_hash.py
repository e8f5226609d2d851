"""SHA-256 of large files, computed once and remembered while size and time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from chat_app.config.paths import get_paths
from chat_app.models.file_memory import FileMemory

CHUNK = 1 << 20


def compute_sha256(path: Path, cancelled: Callable[[], bool] | None = None) -> str:
    """The file's hash in hex. Raises OSError, or InterruptedError when `cancelled()` answers True."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            if cancelled is not None and cancelled():
                raise InterruptedError(f"stopped while reading {path}")
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str | None:
    """The file's hash in hex if it was computed before and the file has not changed since. OSError."""
    return _remembered(_memory(), path)


def file_sha256(path: Path) -> str:
    """The file's hash in hex, from memory when size and modification time are those of the last time.

    The memory is a small file in the models folder; it may be missing, damaged or unwritable. OSError.
    """
    memory = _memory()
    remembered = _remembered(memory, path)
    if remembered is not None:
        return remembered
    digest = compute_sha256(path)
    memory.put(path, digest)
    # The memory only saves time: where the folder cannot be written the hash is computed again.
    with contextlib.suppress(OSError):
        memory.save()
    return digest


def _memory() -> FileMemory:
    return FileMemory(get_paths().models / "hashes.json")


def _remembered(memory: FileMemory, path: Path) -> str | None:
    value = memory.get(path)
    return value if isinstance(value, str) else None
