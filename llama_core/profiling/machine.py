"""What a measurement was taken on: printed with every table, because a figure without it says little."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    name, flags = _cpu()
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


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """One of the first core's caches that hold data or instructions. kind: "Data", "Instruction" or
    "Unified"; ways, line_bytes: 0 where the system does not tell."""

    level: int
    kind: str
    size_bytes: int
    ways: int = 0
    line_bytes: int = 0


def cache_levels(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> list[CacheLevel]:
    """The first core's caches, the smallest level first; empty where the system does not tell.

    Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu.
    """
    found = []
    for entry in sorted(folder.glob("index*")):
        try:
            size = (entry / "size").read_text(encoding="ascii").strip()
            found.append(
                CacheLevel(
                    int((entry / "level").read_text(encoding="ascii")),
                    (entry / "type").read_text(encoding="ascii").strip(),
                    int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1:], 0),
                    _number_in(entry / "ways_of_associativity"),
                    _number_in(entry / "coherency_line_size"),
                )
            )
        except (OSError, ValueError):
            continue  # a kernel that writes it otherwise
    return sorted(found, key=lambda cache: cache.level)


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def last_level_cache_bytes() -> int:
    """The size of the first core's largest cache; 0 where the system does not tell."""
    return max((cache.size_bytes for cache in cache_levels()), default=0)


def peak_bytes() -> int:
    """The largest resident size that this process has had."""
    import psutil

    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
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


def _cpu() -> tuple[str, set[str]]:
    """The CPU's name and its feature flags, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), set()
    name = ""
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = set(value.split())
    return name or platform.machine(), flags
