"""How much memory there is: asked before a large buffer is made, because Linux promises more than it has."""

from __future__ import annotations

from pathlib import Path

from llama_core.errors import NotEnoughMemoryError

# A cgroup without a limit reports "max" (v2) or a number near 2^63 (v1).
_NO_LIMIT = 1 << 60
_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def available_bytes() -> int:
    """Memory that a new buffer may use: what the system can give without swapping, within the cgroup."""
    import psutil  # here, so that only processes that load a model pay for it

    available = int(psutil.virtual_memory().available)
    return min([available, *_cgroup_rooms()])


def _cgroup_rooms() -> list[int]:
    """What is left under each cgroup limit; file pages that can be dropped count as free."""
    rooms = []
    for limit_file, usage_file, stat_file in _CGROUP_FILES:
        try:
            limit = int(Path(limit_file).read_text())
            usage = int(Path(usage_file).read_text())
            stat = dict(line.split(maxsplit=1) for line in Path(stat_file).read_text().splitlines())
            droppable = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
        if limit < _NO_LIMIT:
            rooms.append(max(0, limit - max(0, usage - droppable)))
    return rooms


def resident_bytes() -> int:
    """The process's resident size as the system counts it."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def require_memory(what: str, needed_bytes: int, advice: str) -> None:
    """Raise NotEnoughMemoryError unless `needed_bytes` are available. `what` starts the sentence."""
    available = available_bytes()
    if needed_bytes > available:
        raise NotEnoughMemoryError(what, needed_bytes, available, advice)
