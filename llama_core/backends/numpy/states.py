"""The states of layers without attention, and the way back to earlier ones.

A state holds everything that such a layer knows of the positions so far, in one array of fixed size. It
cannot be cut back as keys and values can. So copies of it are kept at some lengths, its snapshots, and a
cache goes back to the nearest one at or before the length that is asked for; length 0 needs none.

    positions   0 ........ 310 ............. 845 ... 870
    snapshots   |           |                 |       now
                                    truncate(600): back to 310, and 290 positions are to be computed again

All layers' arrays stand in one run of memory, which makes a snapshot one copy. There are two such runs: a
pass reads one and writes the other, and they change places when it is done, so that a pass that fails or is
cancelled half way leaves the state as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.architectures.base import Description
from llama_core.architectures.recurrent import Recurrent, conv_shape
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.config import ModelConfig
from llama_core.memory import available_bytes

F32 = NDArray[np.float32]

# All snapshots of a text take at most so many bytes, or as many as FEWEST take; and there are at most MOST.
SNAPSHOT_BYTES = 512 << 20
FEWEST, MOST = 4, 32


@dataclass(frozen=True, slots=True)
class LayerState:
    """conv: (kernel - 1, conv_dim); memory: `Recurrent.memory_shape`; parts of one run of memory."""

    conv: F32
    memory: F32


class States:
    """What the layers without attention know after the positions computed so far; nothing at first."""

    def __init__(self, model: Description) -> None:
        specs, self._n_values = model.recurrents(), model.state_values
        self._now, self._next = (_Run(specs, np.zeros(self._n_values, np.float32)) for _ in range(2))
        self._snapshots: dict[int, F32] = {}  # by length, the shortest first

    @property
    def state_bytes(self) -> int:
        """What one state takes; 0 where all layers have attention."""
        return 4 * self._n_values

    @property
    def nbytes(self) -> int:
        """Both runs and all snapshots."""
        return (2 + len(self._snapshots)) * self.state_bytes

    @property
    def snapshot_lengths(self) -> tuple[int, ...]:
        """Where there is a snapshot."""
        return tuple(self._snapshots)

    def of_layer(self, i: int) -> tuple[LayerState, LayerState]:
        """Layer i's state so far, and where a pass writes the one behind its positions."""
        return self._now.layers[i], self._next.layers[i]

    def advance(self) -> None:
        """What the pass wrote is the state now."""
        self._now, self._next = self._next, self._now

    def reachable(self, length: int, now: int) -> int:
        """The greatest length up to `length` whose state is at hand; `now`: that of the state itself."""
        if not self._n_values or length == now:
            return length
        return max((at for at in self._snapshots if at <= length), default=0)

    def snapshot(self, length: int) -> None:
        """Keep a copy of the state, which is that after `length` positions. Where memory is short there is
        none: going back takes longer then, and nothing else changes."""
        if not self._n_values or length in self._snapshots or length == 0:
            return
        if available_bytes() < 2 * self.state_bytes:
            return
        self._snapshots[length] = self._now.values.copy()
        most = max(FEWEST, min(MOST, SNAPSHOT_BYTES // self.state_bytes))
        if len(self._snapshots) > most:
            self._thin_out()

    def go_back(self, length: int) -> None:
        """The state after `length` positions, which is `reachable`; what was kept of later ones is gone."""
        self._take(self._snapshots, length)

    def copy(self, source: States, length: int, now: int) -> None:
        """Be the state of `source` after `length` positions, which it can reach; `now`: how many it has.
        Snapshots are never written to, so that both hold the same ones."""
        self._take(source._snapshots, length)
        if length == now:
            self._now.values[:] = source._now.values

    def snapshot_at(self, length: int) -> NDArray[np.uint8] | None:
        """The snapshot at `length`, as bytes; None where there is none."""
        found = self._snapshots.get(length)
        return None if found is None else found.view(np.uint8)

    def adopt(self, length: int, states: Mapping[int, NDArray[np.uint8]]) -> None:
        """Be the state after `length` positions, one of `states`. They become snapshots beside those of
        shorter lengths that there are. Raises ValueError for one of another size."""
        if any(one.nbytes != self.state_bytes for one in states.values()):
            raise ValueError(f"a state of this model has {self.state_bytes} bytes")
        known = self._snapshots | {at: one.view(np.float32) for at, one in states.items()}
        self._take(dict(sorted(known.items())), length)

    def _take(self, known: Mapping[int, F32], length: int) -> None:
        self._snapshots = {at: values for at, values in known.items() if at <= length}
        self._now.values[:] = self._snapshots.get(length, 0.0)

    def _thin_out(self) -> None:
        """Forget the snapshot that leaves the smallest gap; the newest is not asked."""
        at = [0, *self._snapshots]
        gaps = {at[k]: at[k + 1] - at[k - 1] for k in range(1, len(at) - 1)}
        del self._snapshots[min(gaps, key=gaps.__getitem__)]


class HybridCache(KVCache):
    """Keys and values of the layers that have attention, and the states of the others."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        model = describe(config)
        super().__init__(config, capacity, other_bytes=2 * 4 * model.state_values)
        self.states = States(model)

    def advance(self, n: int) -> None:
        """Declare the n positions behind `length` valid, and the state behind them the state."""
        super().advance(n)
        self.states.advance()

    def reachable(self, length: int) -> int:
        """`length` where that is where it stands, else the nearest snapshot at or below it."""
        return self.states.reachable(length, self.length)

    def snapshot(self) -> None:
        """Keep a copy of the state, to go back to."""
        self.states.snapshot(self.length)

    def truncate(self, length: int) -> None:
        """Forget every position from `reachable(length)` on. Raises ValueError when `length` exceeds what is
        held."""
        before = self.length
        super().truncate(length)
        if self.length < before:
            self.states.go_back(self.length)

    def copy_prefix(self, source: Self, length: int) -> None:
        """Hold the first `source.reachable(length)` positions of `source`, and nothing else. Raises as
        `take_length`."""
        super().copy_prefix(source, length)
        self.states.copy(source.states, self.length, source.length)

    def state(self, length: int) -> NDArray[np.uint8] | None:
        """The snapshot at `length`, as bytes."""
        return self.states.snapshot_at(length)

    def adopt(self, length: int, states: Mapping[int, NDArray[np.uint8]]) -> None:
        """See `Cache`."""
        if length and length not in states:
            raise ValueError(f"there is no state for {length} positions")
        super().adopt(length, states)
        self.states.adopt(length, states)

    @property
    def snapshot_bytes(self) -> int:
        """What a copy of the state takes."""
        return self.states.state_bytes

    @property
    def nbytes(self) -> int:
        """Bytes reserved, and those of the snapshots."""
        return super().nbytes + self.states.nbytes


class _Run:
    """All layers' arrays in one. layers: views of it, by the layer's number."""

    def __init__(self, specs: Mapping[int, Recurrent], values: F32) -> None:
        self.values = values
        self.layers: dict[int, LayerState] = {}
        start = 0
        for i, spec in specs.items():
            middle = start + math.prod(conv_shape(spec))
            end = middle + math.prod(spec.memory_shape)
            conv = values[start:middle].reshape(conv_shape(spec))
            self.layers[i] = LayerState(conv, values[middle:end].reshape(spec.memory_shape))
            start = end
