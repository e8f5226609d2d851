"""Time per operation and layer.

A model is told at its construction what it computes with. A profiler makes one of the same weights with
clocks in it, and no other model knows of that: the NumPy model's operations are functions
(`backends/numpy/clocked.py`), the compiled model's steps rows of phases (`backends/jit/program.py`), whose
times the step notes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import NO_LAYER
from llama_core.backends.numpy.clocked import clocked
from llama_core.backends.numpy.decoder import Operations
from llama_core.backends.step_watch import NamedOperation

Function = Callable[..., Any]


@dataclass(slots=True)
class OperationTimes:
    """seconds: by (operation, layer), layer NO_LAYER for what belongs to none; calls: by operation."""

    seconds: defaultdict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def by_layer(self, operation: str) -> dict[int, float]:
        """Seconds of one operation, layer by layer."""
        return {layer: s for (name, layer), s in sorted(self.seconds.items()) if name == operation}

    def total(self, operation: str) -> float:
        """Seconds of one operation over all layers."""
        return sum(self.by_layer(operation).values())


class OpTimers:
    """Collects the times of one model's operations. now: the clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._times = OperationTimes()
        self._now = now

    def wants_step(self) -> bool:
        """Every step counts."""
        return True

    def take(self) -> OperationTimes:
        """What was measured since the last call; to be asked when no operation is under way."""
        taken, self._times = self._times, OperationTimes()
        return taken

    def wrap(self, operation: str, layer: int, function: Function) -> Function:
        """`function` with a clock around it."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            start = self._now()
            result = function(*arguments, **keywords)
            self._add(operation, layer, self._now() - start)
            return result

        return timed

    def operations(self, layer: int, plain: Operations = Operations()) -> Operations:  # noqa: B008 - frozen
        """The NumPy model's operations of a layer, timed."""
        return clocked(self.wrap, layer, plain)

    def add_phases(self, names: Sequence[NamedOperation], first: int, nanoseconds: NDArray[np.int64]) -> None:
        """The compiled model's phases from `first` on, (n_phases,)."""
        ran = names[first : first + len(nanoseconds)]
        for name, taken in zip(ran, nanoseconds.tolist(), strict=True):
            self._add(name.operation, name.layer, taken / 1e9)

    def _add(self, operation: str, layer: int, seconds: float) -> None:
        self._times.seconds[operation, layer] += seconds
        self._times.calls[operation] += 1


def clock_cost_s(calls: int = 2000) -> float:
    """What one clocked call costs beside the function's own time, each the least of a few rounds: a round in
    which the system took the core away for a moment counts for neither."""

    def nothing() -> None:
        pass

    def seconds(function: Function) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    clocked = OpTimers().wrap("nothing", NO_LAYER, nothing)
    rounds = [(seconds(clocked), seconds(nothing)) for _ in range(5)]
    with_clock, without = min(one for one, _ in rounds), min(other for _, other in rounds)
    return max(0.0, with_clock - without) / calls
