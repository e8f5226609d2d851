"""How fast this machine reads and computes: measured in at most two seconds, and remembered for a day.

What was measured beside other programs is too little, and is remembered for minutes.
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from chat_app.config.paths import ensure_dir, get_paths
from llama_core.ordinary_files import read_ordinary

if TYPE_CHECKING:
    from llama_core.roofline.rates import MachineRates

KEPT_S, BUSY_KEPT_S = 86400, 600
# The machine is busy where others' work takes more than this share of the threads.
BUSY = 0.25


def machine_rates() -> MachineRates:
    """The rates of this machine with the threads that a model is given. Measures where none are known."""
    from llama_core.cores import usable_cores
    from llama_core.cpu import cpu
    from llama_core.roofline.rates import MachineRates, measure_rates

    threads = usable_cores()
    # A home may be shared by several machines, and one that is virtual may move.
    machine = [platform.node(), cpu()[0], threads]
    kept = _read()
    kept_s = min(KEPT_S, BUSY_KEPT_S) if kept.get("busy") else KEPT_S
    if kept.get("machine") == machine and 0 <= time.time() - kept.get("at", 0) < kept_s:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of another version
            return MachineRates(*(float(kept[field.name]) for field in fields(MachineRates)))
    busy = load() > BUSY * threads
    rates = measure_rates(threads)
    with contextlib.suppress(OSError):  # the file only saves time
        path = get_paths().machine_rates
        ensure_dir(path.parent)
        what = {"machine": machine, "at": int(time.time()), "busy": busy, **asdict(rates)}
        path.write_text(json.dumps(what))
    return rates


def load() -> float:
    """How many threads have wanted to run, on average over the last minute."""
    import psutil

    with contextlib.suppress(OSError):
        return float(psutil.getloadavg()[0])
    return 0.0


def forget_rates() -> None:
    """Measure again the next time: something was faster than it should be."""
    with contextlib.suppress(OSError):
        get_paths().machine_rates.unlink()


def _read() -> dict[str, Any]:
    try:
        kept = json.loads(read_ordinary(get_paths().machine_rates))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) and isinstance(kept.get("at"), int) else {}
