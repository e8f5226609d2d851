"""Several threads at the same work, timed as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any


def run_together(works: Sequence[Callable[[int], Any]], passes: int) -> float:
    """Each `work(passes)` on a thread of its own, all at once, after a `work(1)` to warm up: seconds from the
    first start to the last end."""
    barrier = threading.Barrier(len(works))
    spans: list[tuple[float, float]] = []

    def run(work: Callable[[int], Any]) -> None:
        work(1)
        barrier.wait()
        started = time.perf_counter()
        work(passes)
        spans.append((started, time.perf_counter()))

    workers = [threading.Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)
