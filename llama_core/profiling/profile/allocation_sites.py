"""Which lines allocate while a function runs, those included whose memory is free again at its end.

tracemalloc's snapshots show what is held at one moment. Here every line is watched: before it runs
tracemalloc's peak is set back, and after it the peak tells the most that the line held beyond what was there.
Watching takes memory too (a frame object for each call, and before Python 3.13 a dict of its variables),
which is left out of the count.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

# A number object: as little as watching itself leaves behind.
SMALLEST = 32


PACKAGE = "llama_core"


@dataclass(frozen=True, slots=True)
class AllocationSite:
    """A line. count: how often it took memory; n_bytes: the most it held at once, summed over those times."""

    place: str
    function: str
    count: int
    n_bytes: int


@dataclass(slots=True)
class _Watched:
    """A frame under way: the line it is at, and the size of the dict that watching made for it."""

    file: str
    line: int
    function: str
    dict_bytes: int


class _Watcher:
    """`look` is a trace function of `sys.settrace`; found: [count, bytes] by (file, line, function)."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, int, str], list[int]] = {}
        self._stack: list[_Watched] = []
        self._base = 0
        self._again: Any = self.look  # one object: a bound method made anew would be an allocation

    def look(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._account(frame, event)
        # Nothing may be freed between these two and the line, or the line could take as much unseen.
        self._base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        return self._again

    def _account(self, frame: FrameType, event: str) -> None:
        """What was taken since the last look belongs to the line that was under way."""
        taken = tracemalloc.get_traced_memory()[1] - self._base
        dict_bytes = sys.getsizeof(frame.f_locals) if sys.version_info < (3, 13) else 0
        if event == "call":
            self._add(taken - sys.getsizeof(frame) - dict_bytes)
            code = frame.f_code
            self._stack.append(_Watched(code.co_filename, frame.f_lineno, code.co_qualname, dict_bytes))
        elif self._stack:
            here = self._stack[-1]
            self._add(taken - max(0, dict_bytes - here.dict_bytes))
            here.dict_bytes = dict_bytes
            if event == "line":
                here.line = frame.f_lineno
            elif event == "return":
                self._stack.pop()

    def _add(self, n_bytes: int) -> None:
        if n_bytes > SMALLEST and self._stack:
            here = self._stack[-1]
            entry = self.found.setdefault((here.file, here.line, here.function), [0, 0])
            entry[0] += 1
            entry[1] += n_bytes


def allocation_sites(
    function: Callable[[], Result], *, ignored: Collection[str] = ()
) -> tuple[list[AllocationSite], Result]:
    """The lines that allocated while `function()` ran in this thread, most bytes first, and its result.

    ignored: files whose lines are left out, such as the caller's own.
    """
    watcher = _Watcher()
    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(watcher.look)
    try:
        result = function()
    finally:
        sys.settrace(before)
        tracemalloc.stop()
    sites = [
        AllocationSite(f"{_short(file)}:{line}", name, count, n_bytes)
        for (file, line, name), (count, n_bytes) in watcher.found.items()
        if file not in (__file__, *ignored)
    ]
    return sorted(sites, key=lambda site: (-site.n_bytes, site.place)), result


def _short(file: str) -> str:
    """The path from our package on; of other files the last folder and the name."""
    parts = Path(file).parts
    start = parts.index(PACKAGE) if PACKAGE in parts else -2
    return "/".join(parts[start:])
