"""Time per operation and layer, measured from outside.

The models hold no timers: while `timed_operations` is open, the functions they call are replaced by wrappers
that look at the clock, and afterwards they are put back, so that nothing is paid when nobody looks. A hook
given to their constructors would be asked at each operation of each step, and whoever profiles is handed a
model that has long been made.

Each second is counted once, for the innermost operation that was running. The NumPy model:

    _pass ──── embedding, views             -> rest of a pass
     ├─ _mix ────┬─ rms_norm                -> norm
     │           ├─ linear (in_proj)        -> attention products
     │           ├─ attend                  -> attention (scores, softmax, mixing)
     │           │     └─ rotate            -> RoPE
     │           └─ linear (o_proj)         -> attention products
     └─ _feed_forward, likewise             -> norm, feed-forward products, feed-forward
    _head ─┬─ rms_norm                      -> norm
           └─ linear (lm_head)              -> head

The compiled model computes many phases in one call (`backends/jit/program.py`), with norm and RoPE inside the
products and attention. It is made to take one phase a call here. Of a prompt a phase is a whole layer: what
happens within it, the watcher of `phase_watch.py` sees.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_core import sampling
from llama_core.backends.base import Model
from llama_core.backends.numpy import attention, model

NO_LAYER = -1
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


@dataclass(slots=True)
class _Open:
    """An operation under way; inside_s: what operations within it have taken so far."""

    operation: str
    layer: int
    inside_s: float = 0.0


class OpTimers:
    """Collects `times`. now: the clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.times = OperationTimes()
        self._now = now
        self._layer = NO_LAYER
        self._open: list[_Open] = []

    def take(self) -> OperationTimes:
        """What was measured since the last call; to be asked when no operation is under way."""
        taken, self.times = self.times, OperationTimes()
        return taken

    def run(self, operation: str, layer: int, function: Function, *arguments: Any, **keywords: Any) -> Any:
        """Call `function`; its time, less that of operations inside, goes to `operation` and `layer`."""
        self._layer = layer
        current = _Open(operation, layer)
        self._open.append(current)
        start = self._now()
        try:
            return function(*arguments, **keywords)
        finally:
            elapsed = self._now() - start
            self._open.pop()
            self.times.seconds[operation, layer] += elapsed - current.inside_s
            self.times.calls[operation] += 1
            if self._open:
                self._open[-1].inside_s += elapsed

    def wrap(self, operation: str, function: Function, *, layer: str = "same") -> Function:
        """`function` with a clock around it. layer: "same" as what runs around it, "none", or "first": the
        first argument after self is its number."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            of = {"same": self._layer, "none": NO_LAYER}.get(layer)
            number = int(arguments[1]) if of is None else of
            return self.run(operation, number, function, *arguments, **keywords)

        return timed

    def wrap_within(self, operations: Mapping[str, str], function: Function) -> Function:
        """Like `wrap`, for a function whose operation depends on the one it is called in: `operations` gives
        it by that one's name. Elsewhere the function is a part of what calls it, and gets no clock."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            operation = operations.get(self._open[-1].operation) if self._open else None
            if operation is None:
                return function(*arguments, **keywords)
            return self.run(operation, self._layer, function, *arguments, **keywords)

        return timed


@contextlib.contextmanager
def timed_operations(measured: Model, now: Callable[[], float] = time.perf_counter) -> Iterator[OpTimers]:
    """Time the operations of a model, NumPy's or the compiled one, for the `with` block."""
    timers = OpTimers(now)
    draw = sampling.Sampler.draw
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(sampling.Sampler, "draw", timers.wrap("sampler", draw, layer="none")))
        if isinstance(measured, model.Llama):
            _time_numpy(timers, stack)
        else:
            _time_compiled(timers, stack, measured)
        yield timers


def _time_numpy(timers: OpTimers, stack: contextlib.ExitStack) -> None:
    products = {"attention": "attention products", "feed-forward": "feed-forward products"}

    def clocked(operation: str, layer: str = "same") -> Callable[[Function], Function]:
        return lambda function: timers.wrap(operation, function, layer=layer)

    wrappers: tuple[tuple[Any, str, Callable[[Function], Function]], ...] = (
        (model.Llama, "_pass", clocked("rest of a pass", "none")),
        (model.Llama, "_mix", clocked("attention", "first")),
        (model.Llama, "_feed_forward", clocked("feed-forward")),
        (model.Llama, "_head", clocked("head", "none")),
        (model, "linear", lambda function: timers.wrap_within(products, function)),
        (model, "rms_norm", clocked("norm")),
        (attention, "rms_norm", clocked("norm")),
        (attention, "rotate", clocked("RoPE")),
    )
    for place, name, wrapper in wrappers:
        stack.enter_context(replaced(place, name, wrapper(getattr(place, name))))


def _time_compiled(timers: OpTimers, stack: contextlib.ExitStack, measured: Any) -> None:
    from llama_core.backends.jit.model import JitLlama
    from llama_core.backends.jit.threads import ThreadPool

    run = ThreadPool.run

    def run_phase(pool: ThreadPool) -> None:
        name = measured.planned_phases()[0]
        timers.run(name.operation, name.layer, run, pool)

    wrapped: tuple[tuple[Any, str, Function], ...] = (
        (JitLlama, "_run", timers.wrap("rest of a pass", JitLlama._run, layer="none")),
        (JitLlama, "_phases_per_call", lambda *_: 1),
        (ThreadPool, "run", run_phase),
    )
    for place, name, timed in wrapped:
        stack.enter_context(replaced(place, name, timed))


@contextlib.contextmanager
def replaced(place: Any, name: str, other: Any) -> Iterator[None]:
    """`other` stands for an attribute of a class or module, for the `with` block."""
    original = getattr(place, name)
    setattr(place, name, other)
    try:
        yield
    finally:
        setattr(place, name, original)


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

    clocked = OpTimers().wrap("nothing", nothing)
    rounds = [(seconds(clocked), seconds(nothing)) for _ in range(5)]
    with_clock, without = min(one for one, _ in rounds), min(other for _, other in rounds)
    return max(0.0, with_clock - without) / calls
