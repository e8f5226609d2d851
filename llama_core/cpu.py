"""What the system tells of the processor: its name, its features, its caches."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path


def cpu() -> tuple[str, set[str]]:
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
