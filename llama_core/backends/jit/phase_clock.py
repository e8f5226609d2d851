"""When the phases of a step opened, for profilers: the compiled code notes it itself.

Whoever finishes a phase asks the system's clock before the next one opens (`control/schedule.py`). A look
takes some 30 ns, and a step has some hundred phases; where nobody profiles, it is one comparison a phase.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.control.records import Plan
from llama_core.backends.jit.program import PhaseName

# Told after each call of compiled code: its phases, and the seconds of each, (n_phases,) float64.
OnPhases = Callable[[Sequence[PhaseName], NDArray[np.float64]], None]


class PhaseClock:
    """Makes a plan's steps note the times of up to `n_phases` phases, and tells `on_phases`."""

    def __init__(self, plan: Plan, n_phases: int, on_phases: OnPhases) -> None:
        library: Any = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
        self._function = library._timespec64_get if sys.platform == "win32" else library.timespec_get
        self._stamps = np.zeros((n_phases + 1, 2), dtype=np.int64)  # seconds, nanoseconds
        self._on_phases = on_phases
        plan.clock = int(ctypes.cast(self._function, ctypes.c_void_p).value or 0)
        plan.stamps = address(self._stamps)

    def tell(self, names: Sequence[PhaseName]) -> None:
        """To be called behind a call that ran the phases of these names."""
        taken = np.diff(self._stamps[: len(names) + 1], axis=0) @ [1.0, 1e-9]
        self._on_phases(names, taken)
