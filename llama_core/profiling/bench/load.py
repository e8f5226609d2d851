"""Busy programs beside a measurement: an engine that shares its cores must not collapse when one is taken."""

from __future__ import annotations

import subprocess
import sys
import time
from types import TracebackType

SETTLE_S = 0.3


class BusyPrograms:
    """`n` processes that do nothing but compute, for the length of a `with` block."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> BusyPrograms:
        for _ in range(self._n):
            self._running.append(
                subprocess.Popen(
                    # It ends by itself should this process be killed: its parent is another then.
                    [sys.executable, "-c", "import os\np = os.getppid()\nwhile os.getppid() == p: pass"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        if self._running:
            time.sleep(SETTLE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running.clear()
