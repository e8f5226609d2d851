"""What a measurement was taken on: printed with every table, because a figure without it says little."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from llama_core.cpu import cpu, last_level_cache_bytes

# Some environments set these to force an older BLAS kernel; a benchmark wants the machine's own.
BLAS_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Of the many flags of a CPU, those that decide how fast this engine can be.
FEATURES = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


def use_native_blas() -> list[str]:
    """Remove the overrides from this process; returns the names of those that were set.

    Raises RuntimeError when NumPy is loaded already, for then its kernel is chosen.
    """
    found = [name for name in BLAS_OVERRIDES if name in os.environ]
    if found and "numpy" in sys.modules:
        raise RuntimeError(f"{', '.join(found)} is set and NumPy is loaded: too late for the native kernel")
    for name in found:
        del os.environ[name]
    return found


def describe_machine(threads: int | None = None) -> dict[str, Any]:
    """The machine, the versions, the BLAS kernel in use and the load before the run, for a table's head."""
    import numpy as np
    import psutil
    from threadpoolctl import threadpool_info

    blas: dict[str, Any] = next(
        (library for library in threadpool_info() if library["user_api"] == "blas"), {}
    )
    name, flags = cpu()
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "cpu": name,
        "features": [flag for flag in FEATURES if flag in flags],
        "cores": os.cpu_count() or 1,
        "cache_mib": last_level_cache_bytes() >> 20,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite"),
        "blas": f"{blas.get('internal_api', 'unknown')} {blas.get('version') or ''}".strip(),
        "blas_kernel": str(blas.get("architecture", "unknown")),
        "blas_threads": int(blas.get("num_threads", 0)),
        "threads": threads,
        "load_average": [round(value, 2) for value in load] if load else None,
    }


def peak_bytes() -> int:
    """The largest resident size that this process has had."""
    import psutil

    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform.startswith("linux"):
        # Not `ru_maxrss`, which a process takes over from the one that started it, however large that was.
        # Some sandboxes leave it out.
        _, told, rest = Path("/proc/self/status").read_text().partition("VmHWM:")
        if told:
            return 1024 * int(rest.split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """`describe_machine` as two or three lines for people."""
    features = " ".join(machine["features"]) or "no known vector features"
    load = ", ".join(f"{value:g}" for value in machine["load_average"] or ()) or "unknown"
    versions = f"Python {machine['python']}, NumPy {machine['numpy']}, Numba {machine['numba'] or 'absent'}"
    sizes = f"{machine['cores']} cores, {machine['cache_mib']} MiB cache, {machine['memory_gib']:g} GiB"
    threads = machine["threads"] or f"each backend its own choice (BLAS: {machine['blas_threads']})"
    return [
        f"{machine['cpu']}, {sizes}; {features}",
        f"{machine['system']}; {versions}; BLAS {machine['blas']}, kernel {machine['blas_kernel']}",
        f"threads used: {threads}; load average before: {load}",
    ]


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
