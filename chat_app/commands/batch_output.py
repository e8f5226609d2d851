"""The result file of a batch: one line a request, durable as soon as it is written, and read on restart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chat_app.store.durable import AppendFile, make_folder
from chat_app.store.process_lock import ProcessLock

# How each of our lines begins. Only an unfinished last line that begins so is ever cut off.
LINE_START = b'{"id": "batch_req_'


class OutputError(Exception):
    """The result file cannot be used; the text says why."""


class BatchOutput:
    """Holds the file for this process until `close`.

    done: the custom_ids that have their result; bad_lines: the input's lines already reported as bad;
    failed_n: how many of all lines are errors; repaired_bytes: what was cut off a torn last line.

    Raises OutputError where another process writes to it, or where it holds anything but results.
    """

    def __init__(self, path: Path, lock_folder: Path) -> None:
        self.path = path.expanduser().resolve()
        self.done: set[str] = set()
        self.bad_lines: set[int] = set()
        self.failed_n = 0
        self.repaired_bytes = 0
        self._check_place()
        make_folder(lock_folder)
        name = hashlib.sha256(str(self.path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._lock = ProcessLock(lock_folder / f"{name}.lock")
        if not self._lock.acquire():
            raise OutputError(f"{self.path} is being written by another batch")
        try:
            self._file = AppendFile(self.path)
            self._scan()
        except BaseException:  # Ctrl+C too: another batch must be able to take the file
            self._lock.release()
            raise

    def _check_place(self) -> None:
        """Find out now, and not after the first reply, that nothing can be written there."""
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path} is no ordinary file; the results need one")
        if not self.path.parent.is_dir():
            raise OutputError(f"there is no folder {self.path.parent} to write the results to")
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise OutputError(f"{self.path} cannot be written to")

    def _scan(self) -> None:
        """Read what earlier runs wrote, and cut off a line that a crash left unfinished."""
        if not self.path.exists():
            return
        sound = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self._repair(line, sound)
                    return
                self._count(line, number)
                sound += len(line)

    def _repair(self, tail: bytes, sound: int) -> None:
        ours = tail.startswith(LINE_START) or LINE_START.startswith(tail) or not tail.strip(b"\0")
        if not ours:
            raise OutputError(f"the last line of {self.path} is no result of a batch; give another file")
        self._file.truncate(sound)
        self.repaired_bytes = len(tail)

    def _count(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            custom_id, error = record["custom_id"], record["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise OutputError(
                f"line {number} of {self.path} is no result of a batch; give another file"
            ) from None
        bad_line = error.get("line") if isinstance(error, dict) else None
        self.failed_n += error is not None
        if isinstance(bad_line, int):
            self.bad_lines.add(bad_line)
        elif isinstance(custom_id, str):
            self.done.add(custom_id)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one result; it is on disk when this returns. Raises OSError."""
        # ASCII: a custom_id may hold half a surrogate pair, which no UTF-8 file can.
        self._file.append(json.dumps(record).encode() + b"\n")
        self.failed_n += record["error"] is not None

    def close(self) -> None:
        """Let another process have the file."""
        self._lock.release()
