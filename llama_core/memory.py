"""How much memory there is: asked before a large buffer is made, because Linux promises more than it has."""

from __future__ import annotations

import contextlib
import functools
import mmap
from pathlib import Path

from llama_core.errors import NotEnoughMemoryError

# A cgroup without a limit reports "max" (v2) or a number near 2^63 (v1).
_NO_LIMIT = 1 << 60
ROOT = Path("/")
_MOUNT = "sys/fs/cgroup"
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_bytes() -> int:
    """Memory that a new buffer may use: what the system can give without swapping, within the cgroup."""
    import psutil  # here, so that only processes that load a model pay for it

    available = int(psutil.virtual_memory().available)
    return min([available, *_cgroup_rooms()])


def _cgroup_rooms() -> list[int]:
    """What is left under the limits of the process's cgroups, up to the root (cgroups(7))."""
    return [
        room
        for folder in cgroup_folders("memory")
        for names in _LIMITS
        if (room := _room(folder, *names)) is not None
    ]


def cgroup_folders(controller: str) -> list[Path]:
    """Where this process's use of "memory" or "cpu" is accounted. A container sees its own as the root."""
    found = {ROOT / _MOUNT, ROOT / _MOUNT / controller}
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:  # number:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or controller in controllers.split(","):
            mount = ROOT / _MOUNT / (controller if controllers else "")
            own = mount / path.strip("/")
            found.update([own, *(parent for parent in own.parents if parent.is_relative_to(mount))])
    return sorted(found)


def _room(folder: Path, limit_file: str, usage_file: str) -> int | None:
    """What a cgroup's limit leaves; file pages that can be dropped count as free. None without a limit."""
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        stat = dict(line.split(maxsplit=1) for line in lines)
        droppable = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    except (OSError, ValueError):  # no such cgroup, or "max"
        return None
    return max(0, limit - max(0, usage - droppable)) if limit < _NO_LIMIT else None


@functools.cache
def machine_bytes() -> int:
    """What the machine has in all, or the least limit of the process's cgroups: asked once."""
    import psutil

    found = [int(psutil.virtual_memory().total)]
    for folder in cgroup_folders("memory"):
        for limit_file, _ in _LIMITS:
            with contextlib.suppress(OSError, ValueError):  # no such cgroup, or "max"
                found.append(int((folder / limit_file).read_text()))
    return min(found)


def resident_bytes() -> int:
    """The process's resident size as the system counts it."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def require_memory(what: str, needed_bytes: int, advice: str) -> None:
    """Raise NotEnoughMemoryError unless `needed_bytes` are available. `what` starts the sentence."""
    available = available_bytes()
    if needed_bytes > available:
        raise NotEnoughMemoryError(what, needed_bytes, available, advice)


def private_memory(nbytes: int) -> mmap.mmap:
    """Zeroed memory whose pages are taken when they are first written."""
    # Python's own default is memory to share with child processes, for which Linux gives no huge pages.
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, nbytes)


def small_page_memory(nbytes: int) -> mmap.mmap:
    """The same in small pages, on systems too that give huge ones unasked: for a KV cache, in which each
    head's run begins in another place, so that in pages of 2 MiB a few positions take nearly all of it
    (NumPy's at 1,024 of 4,096 positions: 199 MiB, and 45 so, at the same speed)."""
    memory = private_memory(nbytes)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
