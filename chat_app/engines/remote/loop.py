"""An event loop on a thread of its own, for whoever must not wait on the network without a way out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
CLOSE_S = 2.0


class LoopThread:
    """Begun with the first piece of work; a daemon, so that no end of the program waits for a server."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work`. Cancelling the future cancels it there."""
        if not self._thread.is_alive():
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, object]) -> None:
        """Cancel all work, do `last`, and end. Call it once."""

        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last

        ended = self.submit(end())
        try:
            ended.result(CLOSE_S)
        except TimeoutError:
            return  # what hangs on the network is left to the process's end
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()
