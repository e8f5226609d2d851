"""How many positions a cache holds: the bookkeeping that both models' caches share."""

from __future__ import annotations

from llama_core.errors import ContextFullError


class Positions:
    """`length` of `capacity` positions are valid. Writing behind `length` changes nothing until `advance`:
    a pass that fails or is cancelled half way leaves a cache in which nothing has happened."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._length = 0

    @property
    def length(self) -> int:
        """Positions held."""
        return self._length

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._capacity

    def require_room(self, n: int) -> None:
        """Raise ContextFullError unless n more positions fit."""
        if self._length + n > self._capacity:
            raise ContextFullError(self._length + n, self._capacity)

    def advance(self, n: int) -> None:
        """Declare the n positions behind `length` valid: all their layers are written."""
        self.require_room(n)
        self._length += n

    def take_length(self, source: Positions, length: int) -> None:
        """Be `length` long because the first `length` positions of `source` are copied here.

        Raises ValueError when `source` holds fewer, ContextFullError when they do not fit.
        """
        if not 0 <= length <= source.length:
            raise ValueError(f"cannot copy {length} of {source.length} positions")
        if length > self._capacity:
            raise ContextFullError(length, self._capacity)
        self._length = length

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on. Raises ValueError when `length` exceeds what is held."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} positions to {length}")
        self._length = length
