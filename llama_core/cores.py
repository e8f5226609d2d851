"""How many threads are worth starting here."""

from __future__ import annotations

import math
import os
from pathlib import Path

from llama_core.memory import cgroup_folders

# Quota and period in microseconds: one file (cgroup v2, "max 100000" without a limit), or two (v1, -1).
_V2 = "cpu.max"
_V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def usable_cores() -> int:
    """The physical cores that this process may run on, within its cgroup's share of time: two threads of one
    core take turns at the same units and the same path to memory. At least 1."""
    import psutil  # here, so that only processes that load a model pay for it

    physical = int(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    shares = [share for folder in cgroup_folders("cpu") if (share := _share(folder)) is not None]
    return max(1, min([physical, allowed, *shares]))


def _share(folder: Path) -> int | None:
    """A cgroup's quota in whole cores, at least 1; None without one."""
    try:
        try:
            quota, period = (folder / _V2).read_text().split()
        except OSError:
            quota, period = ((folder / name).read_text() for name in _V1)
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such cgroup, or "max"
        return None
    return max(1, math.ceil(cores)) if cores > 0 else None
