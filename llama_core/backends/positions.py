"""How many positions a cache holds: the bookkeeping that both models' caches share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

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

    @property
    def snapshot_bytes(self) -> int:
        """What a snapshot takes; 0 where every length can be gone back to without."""
        return 0

    def snapshot(self) -> None:
        """See `Cache`: nothing is needed where every length can be gone back to."""

    def reachable(self, length: int) -> int:
        """The greatest length up to `length` that can be gone back to."""
        return length

    def state(self, length: int) -> NDArray[np.uint8] | None:
        """See `Cache`: nothing beside keys and values is needed."""
        return None

    def adopt(self, length: int, states: Mapping[int, NDArray[np.uint8]]) -> None:
        """The first `length` positions were written from outside. Raises ValueError where they do not fit."""
        if not 0 <= length <= self._capacity:
            raise ValueError(f"{length} positions do not fit into {self._capacity}")
        self._length = length

    def take_length(self, source: Positions, length: int) -> None:
        """Be `length` long, or as long as `source` can reach, because so many of its positions are copied
        here.

        Raises ValueError when `source` holds fewer, ContextFullError when they do not fit.
        """
        if not 0 <= length <= source.length:
            raise ValueError(f"cannot copy {length} of {source.length} positions")
        if length > self._capacity:
            raise ContextFullError(length, self._capacity)
        self._length = source.reachable(length)

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, or from what is `reachable` on. Raises ValueError when
        `length` exceeds what is held."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} positions to {length}")
        self._length = self.reachable(length)
