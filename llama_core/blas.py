"""How many threads NumPy's linear algebra uses."""

from __future__ import annotations

import os

from threadpoolctl import threadpool_info, threadpool_limits


class BlasThreads:
    """Limits the BLAS to `threads` (None: leaves it alone) until `restore`, for the whole process."""

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, expected 1 or more")
        self._limit = threadpool_limits(limits=threads, user_api="blas") if threads is not None else None
        libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
        used = [library["num_threads"] for library in libraries]
        # A BLAS that threadpoolctl does not know (Accelerate) decides for itself.
        self.threads: int = max(used, default=threads or os.cpu_count() or 1)
        told = ("internal_api", "version", "architecture", "num_threads")
        # Which libraries they are, and what they run on: another one rounds differently.
        self.description = "; ".join(
            " ".join(str(library.get(key, "")) for key in told) for library in libraries
        )

    def restore(self) -> None:
        """Give back the number of threads from before. May be called twice."""
        if self._limit is not None:
            self._limit.restore_original_limits()
            self._limit = None
