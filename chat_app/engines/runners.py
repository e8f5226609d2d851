"""Who runs an engine's jobs: a thread of their own beside a screen, or the caller where nothing else waits.

A job is an iterator; each step ends where there is news. Jobs run one after another, in order.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol

from chat_app.engines.lock_turns import LockTurns

if TYPE_CHECKING:
    from llama_core.events import Timings

Job = Generator[None, None, None]


class Runner(Protocol):
    """Runs jobs in order. A job catches its own errors."""

    def submit(self, job: Job) -> None:
        """Put a job at the end; it may begin before this returns."""

    def step(self) -> None:
        """Called when someone wants news."""

    def after_reply(self, timings: Timings) -> None:
        """What a reply cost: the next ones may be run in another way."""

    def close(self, last: Callable[[], None], timeout: float) -> None:
        """End after the job that runs now; then call `last`. Waits for at most `timeout` seconds."""


class ThreadRunner:
    """A daemon thread, begun with the first job: quitting never waits for more than the timeout."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turns: LockTurns | None = None
        self._last: Callable[[], None] = lambda: None

    def submit(self, job: Job) -> None:
        """Queue a job; the first one starts the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def step(self) -> None:
        """The thread needs no push."""

    def after_reply(self, timings: Timings) -> None:
        """Tell what steers the interpreter's lock how fast the reply was."""
        if self._turns is not None:
            self._turns.after_reply(timings)

    def close(self, last: Callable[[], None], timeout: float) -> None:
        """Let the thread run `last` and end; waits `timeout` seconds at most."""
        self._last = last
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        self._turns = LockTurns()
        while (job := self._jobs.get()) is not None:
            deque(job, maxlen=0)
        self._turns.close()
        self._last()


class InlineRunner:
    """The caller's own thread: a step is taken whenever news are asked for, so that whoever writes the reply
    slowly also slows the engine. A job that no other is before begins at once."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job; the only one there is takes its first step at once."""
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self.step()

    def step(self) -> None:
        """Take one step of the oldest job; a job that has ended leaves the queue."""
        while self._jobs:
            with contextlib.suppress(StopIteration):
                next(self._jobs[0])
                return
            self._jobs.popleft()

    def after_reply(self, timings: Timings) -> None:
        """One thread alone has no turns to take."""

    def close(self, last: Callable[[], None], timeout: float) -> None:
        """Drop the jobs and run `last`."""
        while self._jobs:
            self._jobs.popleft().close()
        last()
