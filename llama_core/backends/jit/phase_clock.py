"""When the phases of a step opened, for profilers and watchers: the compiled code notes it itself.

Whoever finishes a phase asks the system's clock before the next one opens (`control/schedule.py`). A look
takes some 30 ns, and a step has some hundred phases; where nobody watches, it is one comparison a phase.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.control.records import Plan
from llama_core.backends.jit.program import PhaseName


class PhaseWatch(Protocol):
    """Who hears of the phases' times."""

    def wants_step(self) -> bool:
        """Asked when a step begins: whether to tell of it."""

    def add_phases(self, names: Sequence[PhaseName], first: int, nanoseconds: NDArray[np.int64]) -> None:
        """After each call of compiled code. names: of all phases of the step's schedule, always the same
        object; nanoseconds: (n_phases,) of those that the call ran, from `first` on."""


class PhaseClock:
    """Makes a plan's steps note the times of up to `n_phases` phases where `watch` wants them."""

    def __init__(self, plan: Plan, n_phases: int, watch: PhaseWatch) -> None:
        library: Any = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
        self._function = library._timespec64_get if sys.platform == "win32" else library.timespec_get
        self._address = int(ctypes.cast(self._function, ctypes.c_void_p).value or 0)
        self._stamps = np.zeros((n_phases + 1, 2), dtype=np.int64)  # seconds, nanoseconds
        self._plan, self._watch = plan, watch
        self._on = False
        plan.stamps = address(self._stamps)

    def begin(self) -> bool:
        """To be called before a step; whether it is watched."""
        on = self._watch.wants_step()
        if on != self._on:
            self._on = on
            self._plan.clock = self._address if on else 0
        return on

    def tell(self, names: Sequence[PhaseName], first: int, n: int) -> None:
        """To be called behind a call that ran `n` phases of a schedule with these names, from `first` on."""
        stamps = self._stamps[: n + 1]
        moments = stamps[:, 0] * 1_000_000_000 + stamps[:, 1]
        self._watch.add_phases(names, first, moments[1:] - moments[:-1])
