"""SHA-256 of large files, computed once and remembered while size and time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from chat_app.config.paths import ensure_dir, get_paths

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
    entry = _read_memory().get(str(path.resolve()))
    if isinstance(entry, list) and entry[:2] == _stamp(path) and len(entry) == 3:
        return str(entry[2])
    return None


def file_sha256(path: Path) -> str:
    """The file's hash in hex, from memory when size and modification time are those of the last time.

    The memory is a small file in the models folder; it may be missing, damaged or unwritable. OSError.
    """
    remembered = remembered_sha256(path)
    if remembered is not None:
        return remembered
    stamp, digest = _stamp(path), compute_sha256(path)
    known = _read_memory()
    known[str(path.resolve())] = [*stamp, digest]
    # The memory only saves time: where the folder cannot be written the hash is computed again.
    with contextlib.suppress(OSError):
        _write_memory({name: value for name, value in known.items() if os.path.exists(name)})
    return digest


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _memory_path() -> Path:
    return get_paths().models / "hashes.json"


def _read_memory() -> dict[str, object]:
    try:
        value = json.loads(_memory_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_memory(known: dict[str, object]) -> None:
    path = _memory_path()
    ensure_dir(path.parent)
    handle, name = tempfile.mkstemp(prefix=".hashes-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(name, path)
    except BaseException:  # Ctrl+C too: no temporary file stays behind
        os.unlink(name)
        raise
