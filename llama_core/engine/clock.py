"""Clocks of what the engine does: they stand still while the consumer of the events runs, and while the
process is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

try:
    import resource
except ImportError:  # Windows, where nothing stops a process as SIGSTOP does
    resource = None  # type: ignore[assignment]

# A shorter pause is not told from a busy machine.
_LEAST_STOP_S = 0.25
# Of the time between two readings, what the process computed if it was not stopped, on a very busy machine.
_LEAST_SHARE = 0.05
# Asked once: the system takes 16 us for the answer, and a reading is due four times a token.
_CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Usage:
    """What this process has used so far: seconds of all its threads, and how often it waited for a disk."""

    cpu_s: float
    disk_n: int


def usage() -> Usage:
    """The system's count for this process."""
    if resource is None:
        return Usage(time.process_time(), 0)
    found = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(found.ru_utime + found.ru_stime, found.ru_majflt + found.ru_inblock)


class RunningTime:
    """Seconds that pass while this process can run: called like `time.perf_counter`.

    No system tells how long a process was stopped (SIGSTOP, ctrl+z, a frozen container, a machine asleep),
    but the CPU time of one that computes goes on between two readings, and nearly as fast as the clock. Where
    it has hardly moved, and no disk was waited for, the rest is left out: what the step computed counts, the
    pause does not. To be read often, around work that computes.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, used: Callable[[], Usage] = usage
    ) -> None:
        self._now, self._used = now, used
        self._seen_s, self._seen = now(), used()
        self._threads = 1.0  # at work at once, the most that was seen
        self._stopped_s = 0.0

    def __call__(self) -> float:
        """Seconds, from any start."""
        now_s, used = self._now(), self._used()
        passed_s, cpu_s = now_s - self._seen_s, used.cpu_s - self._seen.cpu_s
        if passed_s > _LEAST_STOP_S and used.disk_n == self._seen.disk_n:
            ran_s = cpu_s / self._threads
            if ran_s < _LEAST_SHARE * passed_s:
                self._stopped_s += passed_s - ran_s
        if passed_s > 0:
            self._threads = min(max(self._threads, cpu_s / passed_s), _CORES)
        self._seen_s, self._seen = now_s, used
        return now_s - self._stopped_s


class EngineClock:
    """Seconds spent in the engine since the clock was made.

    The engine pauses it before it hands out an event and resumes it when it is asked for the next, so that a
    slow screen never lowers tokens per second. now: None for one that no stop of the process moves on.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = RunningTime() if now is None else now
        self._spent_s = 0.0
        self._since: float | None = self._now()

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
