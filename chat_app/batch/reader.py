"""The lines of a batch's files, whatever their length: what is too long is passed over, not held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MAX_LINE_BYTES = 64 << 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `number` counts all lines from 1, `size` its bytes.

    `text` is the line as it stands; of one longer than MAX_LINE_BYTES only the beginning. `sha256`, in hex,
    is of all of it without the white space around it.
    """

    number: int
    text: bytes
    size: int
    sha256: str

    @property
    def too_long(self) -> bool:
        """Whether `text` is only its beginning."""
        return self.size > MAX_LINE_BYTES


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """Every line of an open file that is not blank. Raises OSError."""
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size, digest = len(text), _StrippedDigest()
        digest.update(text)
        piece = text
        while size > MAX_LINE_BYTES and not piece.endswith(b"\n") and (piece := file.readline(_PIECE)):
            size += len(piece)
            digest.update(piece)
        if not digest.blank:
            yield Line(number, text, size, digest.hexdigest())


class _StrippedDigest:
    """SHA-256 of what comes in pieces, as of `bytes.strip` of all of it."""

    def __init__(self) -> None:
        self.blank = True
        self._all = self._to_last_word = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        if self.blank:
            piece = piece.lstrip()
        words = piece.rstrip()
        if words:
            self.blank = False
            self._all.update(words)
            # White space is part of it only where something follows.
            self._to_last_word = self._all.copy()
        self._all.update(piece[len(words) :])

    def hexdigest(self) -> str:
        return self._to_last_word.hexdigest()
