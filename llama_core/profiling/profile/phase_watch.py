"""The operations of the compiled step, seen from outside: a thread watches which phase is open.

A step is a row of phases (`control/schedule.py`); a phase is an operation of a layer (`program.py`). The
number of the open one stands in memory that all threads share. A thread of ours looks at it again and again,
and at the clock whenever it has changed:

    open phase   17          18          19      20                  21      22 = the step's end
    operation    | norm, QKV | attention | o     | gate, up          | down  |
    seen at      0 us        21 us       35 us   41 us               78 us   96 us

Nothing is added to the step. But the watcher needs a core, so one thread computes; and of a prompt, where a
thread takes its tokens through a whole layer by itself, each operation is done for all tokens instead. What
was over before the watcher looked again, on a busy machine, counts as "not seen".
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit import model as jit_model
from llama_core.backends.jit.control.records import CURRENT, Shared
from llama_core.backends.jit.model import JitLlama
from llama_core.backends.jit.program import PhaseName
from llama_core.backends.jit.threads import ThreadPool
from llama_core.profiling.profile.op_timers import NO_LAYER, OperationTimes, replaced

NOT_SEEN = "not seen"
# Python hands its lock over so often meanwhile: the watcher holds it, and the step's caller wants it back.
SWITCH_S = 5e-5

Seen = tuple[int, float]  # a phase, and when it was first seen open


class Watcher:
    """A thread that notes when the open phase changes, between `begin` and `end`."""

    def __init__(self, current: NDArray[np.int64], now: Callable[[], float] = time.perf_counter) -> None:
        self._current = current
        self._now = now
        self._seen: list[Seen] = []
        self._step = self._watched = 0  # the step that is to be watched, and the one that is
        self._looking = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="phase-watcher", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Returns when the watcher looks."""
        self._seen = [(int(self._current[0]), self._now())]
        self._step += 1  # after the list, which the watcher reads after this
        self._looking.set()
        while self._watched != self._step:
            time.sleep(0)  # it needs the lock
        self._seen[0] = (self._seen[0][0], self._now())

    def end(self) -> list[Seen]:
        """What was seen, from the phase that was open at `begin` to the one that is open now."""
        self._looking.clear()
        return [*self._seen, (int(self._current[0]), self._now())]

    def close(self) -> None:
        """End the thread; returns when it has ended."""
        self._closed = True
        self._looking.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed:
            self._looking.wait()
            while self._looking.is_set() and not self._closed:
                step, seen, phase = self._step, self._seen, int(self._current[0])
                if seen and phase != seen[-1][0]:
                    seen.append((phase, self._now()))
                self._watched = step


def phase_seconds(seen: Sequence[Seen]) -> list[tuple[int | None, float]]:
    """The phases that were seen to open and to end, counted from the first, with their seconds; None with the
    time of those that were over before the watcher looked again."""
    first = seen[0][0]
    seconds: list[tuple[int | None, float]] = []
    for (phase, since), (following, until) in itertools.pairwise(seen):
        if following > phase:  # else the end, seen by the watcher and again by `end`
            seconds.append((phase - first if following == phase + 1 else None, until - since))
    return seconds


@contextlib.contextmanager
def watched_operations(measured: JitLlama) -> Iterator[Callable[[], OperationTimes]]:
    """Watch the model's steps for the `with` block. Yields a function that takes what was seen so far."""
    watcher = Watcher(measured._work.shared.words[CURRENT // Shared.spacing :])
    times = [OperationTimes()]

    def take() -> OperationTimes:
        times.append(OperationTimes())
        return times[-2]

    def run_alone(pool: ThreadPool) -> None:
        pool._shared.alone = 1
        watcher.begin()
        try:
            pool._library.run(pool._plan)
        finally:
            seen = watcher.end()
            pool._shared.alone = 0
        _account(times[-1], measured.planned_phases(), seen)

    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(SWITCH_S)
        with replaced(ThreadPool, "run", run_alone), replaced(jit_model, "WIDE_TOKENS", sys.maxsize):
            yield take
    finally:
        sys.setswitchinterval(before)
        watcher.close()


def _account(times: OperationTimes, names: Sequence[PhaseName], seen: Sequence[Seen]) -> None:
    """Add a step's phases to their operations and layers."""
    for number, seconds in phase_seconds(seen):
        name = PhaseName(NOT_SEEN, NO_LAYER) if number is None else names[number]
        times.seconds[name.operation, name.layer] += seconds
        times.calls[name.operation] += 1
