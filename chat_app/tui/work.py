"""Work beside the screen: coroutines that may fail without harm, and drawing that is done in order."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Job = Callable[[], Awaitable[Any]]


class Work:
    """`start` makes a worker of a job; `tell` says what nobody expected."""

    def __init__(self, start: Callable[[Job], object], tell: Callable[[Exception], object]) -> None:
        self._start = start
        self._tell = tell
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work beside the screen. Whatever goes wrong in it is told; it never ends the app."""
        self._start(self.guard(work))

    def guard(self, work: Coroutine[Any, Any, Any]) -> Job:
        """A worker's job: this work, which may fail without harm to anything else. Where the worker is
        cancelled before it begins, the work is closed: else Python would warn that nobody awaited it."""

        async def job() -> None:
            await self._guarded(work)

        weakref.finalize(job, work.close)
        return job

    async def _guarded(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - told and logged; a cancellation passes
            self.report(error)

    def report(self, error: Exception) -> None:
        """Tell and log an error that nobody expected."""
        logging.getLogger(__name__).error("work of the chat screen failed", exc_info=error)
        self._tell(error)

    def later(self, job: Job) -> None:
        """Draw this behind what is to be drawn already."""
        self._jobs.put_nowait(job)

    async def draw_in_order(self) -> None:
        """Runs as long as the screen does."""
        while True:
            await self._guarded((await self._jobs.get())())
