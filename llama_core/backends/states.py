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

How a layer's numbers stand in its part is its backend's own affair; each starts on a cache line where all
widths are multiples of sixteen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Description
from llama_core.architectures.recurrent import Recurrent, conv_shape
from llama_core.memory import available_bytes, private_memory

F32 = NDArray[np.float32]

# All snapshots of a text take at most so many bytes, or as many as FEWEST take; and there are at most MOST.
SNAPSHOT_BYTES = 512 << 20
FEWEST, MOST = 4, 32


@dataclass(frozen=True, slots=True)
class LayerState:
    """conv: (kernel - 1, conv_dim); memory: `Recurrent.memory_shape`; parts of one run of memory."""

    conv: F32
    memory: F32


@dataclass(frozen=True, slots=True)
class StatePlace:
    """Where a layer's state stands among the numbers of all: its convolution's part, its memory, its end."""

    conv: int
    memory: int
    end: int


def state_places(specs: Mapping[int, Recurrent]) -> dict[int, StatePlace]:
    """By the layer's number."""
    places: dict[int, StatePlace] = {}
    start = 0
    for i, spec in specs.items():
        memory = start + math.prod(conv_shape(spec))
        places[i] = StatePlace(start, memory, memory + math.prod(spec.memory_shape))
        start = places[i].end
    return places


class States:
    """What the layers without attention know after the positions computed so far; nothing at first."""

    def __init__(self, model: Description) -> None:
        specs, self._n_values = model.recurrents(), model.state_values
        self._now, self._next = (_Run(specs, _zeros(self._n_values)) for _ in range(2))
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

    @property
    def addresses(self) -> tuple[int, int]:
        """Where the numbers of the state so far begin, and those that a pass writes."""
        return self._now.address, self._next.address

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
        shorter lengths that there are. Raises ValueError for one of another size, and where there is none
        at `length`."""
        if not self._n_values:
            return
        if length and length not in states:
            raise ValueError(f"there is no state for {length} positions")
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


class _Run:
    """All layers' arrays in one. layers: views of it, by the layer's number; address: of the first number."""

    def __init__(self, specs: Mapping[int, Recurrent], values: F32) -> None:
        self.values, self.address = values, int(values.ctypes.data)
        self.layers: dict[int, LayerState] = {}
        for i, place in state_places(specs).items():
            conv = values[place.conv : place.memory].reshape(conv_shape(specs[i]))
            memory = values[place.memory : place.end].reshape(specs[i].memory_shape)
            self.layers[i] = LayerState(conv, memory)


def _zeros(n: int) -> F32:
    """Zeros that start on a page."""
    return np.frombuffer(private_memory(4 * n), np.float32) if n else np.empty(0, np.float32)
