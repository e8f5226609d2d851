"""The engine's own clock, which stands still while the consumer of the events runs."""

from __future__ import annotations

import time
from collections.abc import Callable


class EngineClock:
    """Seconds spent in the engine since the clock was made.

    The engine pauses it before it hands out an event and resumes it when it is asked for the next, so that a
    slow screen never lowers tokens per second.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._spent_s = 0.0
        self._since: float | None = now()

    def elapsed_s(self) -> float:
        """Seconds so far."""
        return self._spent_s + (self._now() - self._since if self._since is not None else 0.0)

    def pause(self) -> None:
        """Stand still; nothing where it does already."""
        if self._since is not None:
            self._spent_s += self._now() - self._since
            self._since = None

    def resume(self) -> None:
        """Go on; nothing where it runs already."""
        if self._since is None:
            self._since = self._now()
