"""The input of a batch: read several times, for it may be larger than memory, and the same each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from chat_app.batch.reader import Line, read_lines
from chat_app.text.errors import UsageError

# Bytes of a line's SHA-256 by which it is known again: enough for no two to be taken for one by chance.
_MARK_BYTES = 8


class BatchInput:
    """Gives the lines that were there when it was read first, and those only.

    Whoever writes to the file meanwhile would otherwise have lines run that nobody judged, or lines lost
    without a word: later readings end at the first line that is another one, and `changed` tells.

    Raises UsageError where there is no such file, or none that can be read twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not self.path.exists():
            raise UsageError(f"there is no file {self.path}")
        if not self.path.is_file():
            raise UsageError(
                f"{self.path} is no ordinary file; IN is read several times, so it must be one. "
                "Write the requests to a file first"
            )
        self._marks = bytearray()
        self._stamp: tuple[int, ...] | None = None
        self._changed = False

    def is_empty(self) -> bool:
        """Whether all of it is blank. Raises OSError."""
        with self.path.open("rb") as file:
            return not any(read_lines(file))

    def first(self) -> Iterator[Line]:
        """Every line that is not blank, remembered for later readings. Raises OSError."""
        with self.path.open("rb") as file:
            self._stamp = _stamp(os.fstat(file.fileno()))
            for line in read_lines(file):
                self._marks += _mark(line)
                yield line

    def again(self) -> Iterator[Line]:
        """The lines of the first reading once more, up to the first that is not there as it was."""
        at = 0
        try:
            with self.path.open("rb") as file:
                for line in read_lines(file):
                    if self._marks[at : at + _MARK_BYTES] != _mark(line):  # one more line has no mark at all
                        self._changed = True
                        return
                    at += _MARK_BYTES
                    yield line
        except OSError:  # removed, or on a disk that is gone: the results so far are not
            self._changed = True
        self._changed |= at < len(self._marks)

    def changed(self) -> bool:
        """Whether the lines are others by now than they were; touching the file changes none."""
        try:
            untouched = _stamp(self.path.stat()) == self._stamp
        except OSError:
            untouched = False
        if not self._changed and not untouched:
            for _ in self.again():
                pass
        return self._changed


def _mark(line: Line) -> bytes:
    return bytes.fromhex(line.sha256[: 2 * _MARK_BYTES])


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
