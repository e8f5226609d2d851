"""The result file of a batch: one line a request, durable as soon as it is written, and read on restart."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chat_app.batch.identity import backend_kind
from chat_app.batch.reader import Line, read_lines
from chat_app.config.paths import ensure_dir
from chat_app.files.durable import AppendFile, why_unwritable
from chat_app.files.process_lock import ProcessLock

# How each of our lines begins. Only an unfinished last line that begins so is ever cut off.
LINE_START = b'{"id": "batch_req_'


class OutputError(Exception):
    """The result file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request's result: what it belongs to (see `batch_identity`), each "" where it does not say, as in a
    file of another program, or of a version that did not note it."""

    failed: bool
    request_sha256: str
    model: str
    model_sha256: str


class BatchOutput:
    """Holds the file for this process until `close`.

    What it held when it was opened: results, the last one of each custom_id; reported, how often a line of
    the input (its SHA-256) was reported as bad; ways, how many answers were computed by which backend with
    which cache type, where they say; repaired_bytes, what was cut off a torn last line.

    Raises OutputError where another process writes to it, or where it holds anything but results; later,
    where the file at its place is another one than it was.
    """

    def __init__(self, path: Path, lock_folder: Path) -> None:
        self.path = path.resolve()
        self.results: dict[str, Recorded] = {}
        self.reported: Counter[str] = Counter()
        self.ways: Counter[tuple[str, str]] = Counter()
        self.repaired_bytes = 0
        # The file as this process knows it. Held open, for a file that is gone may leave its inode's number
        # to the next one. None: it is yet to be made.
        self._held: IO[bytes] | None = None
        self._size = 0
        ensure_dir(lock_folder)
        name = hashlib.sha256(str(self.path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._lock = ProcessLock(lock_folder / f"{name}.lock")
        if not self._lock.acquire():
            raise OutputError(f"{self.path} is being written by another batch")
        try:
            # Now, and not after the first reply.
            problem = why_unwritable(self.path)
            if problem is not None:
                raise OutputError(problem)
            self._file = AppendFile(self.path)
            self._scan()
        except BaseException:  # Ctrl+C too: another batch must be able to take the file
            self.close()
            raise

    def _scan(self) -> None:
        """Read what earlier runs wrote, and cut off a line that a crash left unfinished."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in read_lines(file):
                if line.too_long:
                    raise self._no_result(line)
                if line.text.endswith(b"\n"):
                    self._count(line)
                else:
                    self._repair(line.text)
        self._hold()

    def _hold(self) -> None:
        """Take the file as it is now for the one of this process."""
        if self._held is None:
            self._held = self.path.open("rb", buffering=0)
        self._size = os.fstat(self._held.fileno()).st_size

    def _no_result(self, line: Line) -> OutputError:
        return OutputError(f"line {line.number} of {self.path} is no result of a batch; give another file")

    def _repair(self, tail: bytes) -> None:
        """Cut the last line off, where it is one of ours or what a crash made of it."""
        ours = tail.startswith(LINE_START) or LINE_START.startswith(tail) or not tail.strip(b"\0")
        if not ours:
            raise OutputError(f"the last line of {self.path} is no result of a batch; give another file")
        self._file.truncate(self.path.stat().st_size - len(tail))
        self.repaired_bytes = len(tail)

    def _count(self, line: Line) -> None:
        try:
            record = json.loads(line.text)
            custom_id, error = record["custom_id"], record["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._no_result(line) from None
        x = record.get("x")
        x = x if isinstance(x, dict) else {}
        digest = x.get("line_sha256")
        if isinstance(digest, str):
            self.reported[digest] += 1
        elif isinstance(custom_id, str) and not _unknown_line(error, x):
            names = ("request_sha256", "model", "model_sha256")
            failed = _failed(record)
            self.results[custom_id] = Recorded(failed, *(str(x.get(name) or "") for name in names))
            backend, kv = x.get("backend"), x.get("kv")
            if isinstance(backend, str) and isinstance(kv, str) and not failed:
                self.ways[backend_kind(backend), kv] += 1

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one result; it is on disk when this returns. Raises OutputError; none of it is there then."""
        # ASCII: a custom_id may hold half a surrogate pair, which no UTF-8 file can.
        line = json.dumps(record).encode() + b"\n"
        self.check()
        try:
            self._file.append(line, create=self._held is None)
            self._hold()
            self.check()  # it may have gone between the two
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot take another result: {error.strerror or error}. The results in it are "
                "whole; put that right and run the same command again to go on"
            ) from None

    def check(self) -> None:
        """Raises OutputError where the file is not the one that the results were written to, or not as they
        left it: what is written by its name would be lost, or stand among what this process has not read."""
        if self._in_place():
            return
        saved = self._rescue()
        kept = f" The results that were in it are in {saved} now." if saved else ""
        raise OutputError(
            f"{self.path} was removed, replaced or changed by another program during the run.{kept} "
            "Put the file with the results back and run the same command again to go on"
        )

    def _in_place(self) -> bool:
        if self._held is None:
            return not self.path.exists()
        try:
            here = self.path.stat()
            return os.path.samestat(here, os.fstat(self._held.fileno())) and here.st_size == self._size
        except OSError:
            return False

    def _rescue(self) -> Path | None:
        """Where the results are saved, if their file has no name any more and would go with this process."""
        if self._held is None:
            return None
        path = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.saved")
        try:
            if os.fstat(self._held.fileno()).st_nlink:
                return None
            self._held.seek(0)
            with path.open("xb") as file:
                shutil.copyfileobj(self._held, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # its folder is gone too, or the disk is full: there is nothing left to try
            return None
        return path

    def create(self) -> None:
        """Make the file where it is missing, for an input without requests. Raises OSError."""
        self.path.touch()

    def close(self) -> None:
        """Let another process have the file."""
        if self._held is not None:
            self._held.close()
        self._lock.release()


def _failed(record: Mapping[str, Any]) -> bool:
    """OpenAI's service reports a refused request as a response with its HTTP status."""
    response = record.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    return record["error"] is not None or (isinstance(status, int) and status >= 400)


def _unknown_line(error: Any, x: Mapping[str, Any]) -> bool:
    """A bad line reported by number alone, as versions before `x` did: which line that is now is unknown."""
    return "request_sha256" not in x and isinstance(error, dict) and isinstance(error.get("line"), int)
