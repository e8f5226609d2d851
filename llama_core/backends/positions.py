"""How many positions a cache holds, and the states behind them: what both models' caches share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.backends.states import States
from llama_core.config import ModelConfig
from llama_core.errors import ContextFullError


class Positions:
    """`length` of `capacity` positions are valid. Writing behind `length` changes nothing until `advance`:
    a pass that fails or is cancelled half way leaves a cache in which nothing has happened.

    config, description: of the model that it was made for. states: of the layers that have a state instead
    of attention; nothing where there are none.
    """

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        self.config = config
        self.description = describe(config)
        self.states = States(self.description)
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

    def require_config(self, config: ModelConfig) -> None:
        """Raise ValueError unless the cache was made for a model of this config: its numbers lie elsewhere in
        another's."""
        if self.config is not config and self.config != config:
            raise ValueError(f"the cache was made for another model ({self.config.name or 'without a name'})")

    def require_room(self, n: int) -> None:
        """Raise ContextFullError unless n more positions fit."""
        if self._length + n > self._capacity:
            raise ContextFullError(self._length + n, self._capacity)

    def advance(self, n: int) -> None:
        """Declare the n positions behind `length` valid, all their layers being written, and the state behind
        them the state."""
        self.require_room(n)
        self._length += n
        self.states.advance()

    @property
    def snapshot_bytes(self) -> int:
        """What a snapshot takes; 0 where every length can be gone back to without."""
        return self.states.state_bytes

    def snapshot(self) -> None:
        """See `Cache`: nothing is needed where every length can be gone back to."""
        self.states.snapshot(self._length)

    def reachable(self, length: int) -> int:
        """The greatest length up to `length` that can be gone back to."""
        return self.states.reachable(length, self._length)

    def state(self, length: int) -> NDArray[np.uint8] | None:
        """The snapshot at `length`, as bytes; None where there is none, or none is needed."""
        return self.states.snapshot_at(length)

    def adopt(self, length: int, states: Mapping[int, NDArray[np.uint8]]) -> None:
        """See `Cache`: the first `length` positions were written from outside. Raises ValueError where they
        do not fit, or no state of theirs is there."""
        if not 0 <= length <= self._capacity:
            raise ValueError(f"{length} positions do not fit into {self._capacity}")
        self.states.adopt(length, states)
        self._length = length

    def take_length(self, source: Positions, length: int) -> None:
        """Be `length` long, or as long as `source` can reach, with its state there, because so many of its
        positions are copied here.

        Raises ValueError when `source` holds fewer, or those of another model; ContextFullError when they do
        not fit.
        """
        source.require_config(self.config)
        if not 0 <= length <= source.length:
            raise ValueError(f"cannot copy {length} of {source.length} positions")
        if length > self._capacity:
            raise ContextFullError(length, self._capacity)
        self._length = source.reachable(length)
        self.states.copy(source.states, self._length, source.length)

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, or from what is `reachable` on. Raises ValueError when
        `length` exceeds what is held."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} positions to {length}")
        before, self._length = self._length, self.reachable(length)
        if self._length < before:
            self.states.go_back(self._length)
