"""What took long to learn of a file, remembered while its size and modification time stay the same."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from chat_app.config.paths import ensure_dir
from llama_core.ordinary_files import read_ordinary


class FileMemory:
    """A small JSON file, {path: [size, mtime_ns, value]}. It may be missing or damaged: then it is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            value = json.loads(read_ordinary(path))
        except (OSError, ValueError, RecursionError):
            value = {}
        self._known: dict[str, Any] = value if isinstance(value, dict) else {}

    def get(self, file: Path) -> Any:
        """What was remembered of `file` as it is now, or None. Raises OSError where there is no such file."""
        entry = self._known.get(os.path.realpath(file))
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == _stamp(file):
            return entry[2]
        return None

    def put(self, file: Path, value: Any) -> None:
        """Remember a JSON value of `file` as it is now. Raises OSError."""
        self._known[os.path.realpath(file)] = [*_stamp(file), value]
        self._changed = True

    def save(self) -> None:
        """Write what was put, without files that have gone. Raises OSError."""
        if not self._changed:
            return
        ensure_dir(self._path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{self._path.stem}-", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({path: value for path, value in self._known.items() if os.path.exists(path)}, file)
            os.replace(name, self._path)
        except BaseException:  # Ctrl+C too: no temporary file stays behind
            os.unlink(name)
            raise
        self._changed = False


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
