"""What the operations of a model's steps take, for a screen that shows it while a reply is written.

A model is made with a watch, which is off until somebody looks. A profiler keeps more (every call, each phase
of each step) and pays for it; here a step adds to sums, so that watching costs far less than a hundredth.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Function = Callable[..., Any]
EVERY = 4  # of the compiled model's steps one in so many is watched: they are short, and like one another
LOOK_S = 60e-9  # what a look of the compiled code at the clock takes, and the difference to the next one


class NamedOperation(Protocol):
    """What an operation is called, and its layer; below 0 where it belongs to none."""

    @property
    def operation(self) -> str:
        """For people."""

    @property
    def layer(self) -> int:
        """From 0."""


@dataclass(frozen=True, slots=True)
class OperationTime:
    """One operation over all steps that were watched. by_layer: seconds of each layer, from the first on;
    what belongs to none is in `seconds` alone."""

    name: str
    seconds: float
    by_layer: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """operations: the most expensive first. cost_s: what looking at the clock took beside them, about,
    spread over the steps that were not watched too."""

    operations: tuple[OperationTime, ...]
    cost_s: float

    @property
    def total_s(self) -> float:
        """All operations together."""
        return sum(one.seconds for one in self.operations)


class StepWatch:
    """Adds up while `on`, which any thread may set; everything else belongs to the thread that computes."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.on = False
        self._now = now
        self._calls: defaultdict[tuple[str, int], float] = defaultdict(float)
        # By the identity of a schedule's names, which is cheap to look up and holds while they are kept here.
        self._phases: dict[int, tuple[Sequence[NamedOperation], NDArray[np.int64]]] = {}
        self._cost_s = 0.0
        self._step = 0

    def wants_step(self) -> bool:
        """Whether the compiled step that begins is one to watch: the first, and then one in EVERY."""
        if not self.on:
            self._step = 0
            return False
        self._step += 1
        return self._step % EVERY == 1

    def wrap(self, operation: str, layer: int, function: Function) -> Function:
        """`function`, watched."""
        key = operation, layer

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if not self.on:
                return function(*arguments, **keywords)
            start = self._now()
            result = function(*arguments, **keywords)
            self._calls[key] += self._now() - start
            self._cost_s += call_cost_s()
            return result

        return watched

    def add_phases(self, names: Sequence[NamedOperation], first: int, nanoseconds: NDArray[np.int64]) -> None:
        """names: of all phases of a kind of step, always the same object; nanoseconds: (n,) of those from
        `first` on."""
        start = self._now()
        kept = self._phases.get(id(names))
        if kept is None:
            kept = self._phases[id(names)] = names, np.zeros(len(names), dtype=np.int64)
        kept[1][first : first + len(nanoseconds)] += nanoseconds
        self._cost_s += (self._now() - start + len(nanoseconds) * LOOK_S) / EVERY

    def take(self) -> StepTimes | None:
        """What was added up since the last call; None where that is nothing."""
        found: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        for (name, layer), spent in self._calls.items():
            found[name][layer] += spent
        self._calls.clear()
        for names, sums in self._phases.values():
            for named, spent in zip(names, sums.tolist(), strict=True):
                if spent:
                    found[named.operation][named.layer] += spent / 1e9
            sums[:] = 0
        cost_s, self._cost_s = self._cost_s, 0.0
        if not found:
            return None
        rows = [
            OperationTime(name, sum(layers.values()), tuple(layers[i] for i in range(max(layers) + 1)))
            for name, layers in found.items()
        ]
        return StepTimes(tuple(sorted(rows, key=lambda one: -one.seconds)), cost_s)


@functools.cache
def call_cost_s(calls: int = 1000) -> float:
    """What a watched call takes beside the function's own time, about: measured once."""

    def nothing() -> None:
        pass

    def add() -> None:
        start = time.perf_counter()
        nothing()
        sums["", 0] += time.perf_counter() - start

    def seconds(function: Callable[[], None]) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    return max(0.0, min(seconds(add) for _ in range(3)) - min(seconds(nothing) for _ in range(3))) / calls
