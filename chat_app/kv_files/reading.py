"""Finding what the disk has of a prompt, and writing it into the cache."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chat_app.kv_files import segments
from chat_app.kv_files.folder import KvFolder
from chat_app.kv_files.segments import Bytes, DamagedError, Segment
from llama_core.backends.base import Cache
from llama_core.engine.engine import Engine

# Fewer positions are computed as fast as they are found.
LEAST = 32
# Reading a position is at least so many times faster than computing it.
READ_GAIN = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A file whose ids are the first `n` of a prompt's, and the segments to read of it."""

    path: Path
    n: int
    to_read: tuple[Segment, ...]


def find(folder: KvFolder, chat_id: str, ids: Sequence[int], engine: Engine, *, exact: bool) -> Found | None:
    """The file that has most of the ids, this chat's before others; None where reading gains nothing. exact:
    see `KvKeeper`. Raises OSError, UntrustedFileError."""
    wanted, common = np.asarray(ids, np.int32), engine.common(ids)
    best: Found | None = None
    for path in dict.fromkeys([folder.path(chat_id), *(folder.paths() if exact else ())]):
        try:
            with folder.open(path) as file:
                known = segments.scan(file, folder.key)
        except FileNotFoundError:
            continue
        found = _of_use(path, known, wanted, common, engine, exact=exact)
        if found is not None and (best is None or found.n > best.n):
            best = found
    return best


def _of_use(
    path: Path, known: list[Segment], wanted: NDArray[np.int32], common: int, engine: Engine, *, exact: bool
) -> Found | None:
    """What one file has, if reading it is faster than computing; `common` positions are held already."""
    known = [one for one in known if one.stop <= engine.ctx_size]
    n = segments.common_ids(known, wanted)
    if not engine.steps_back:
        n = max((one.stop for one in known if one.stop <= n), default=0)
    # What is held of another computation is mixed with this one only where both have the same bits.
    starts = [one.start for one in known if one.start <= common] if exact else [0]
    start = max((at for at in starts if engine.reachable(at) == at), default=0)
    to_read = tuple(one for one in known if start <= one.start < n)
    if n - common < LEAST or (n - common) * READ_GAIN < to_read[-1].stop - start:
        return None
    return Found(path, n, to_read)


class Filling:
    """Writes what was found into a cache: a `Fill`. It ends before the first segment that is damaged."""

    def __init__(self, file: io.FileIO, found: Found) -> None:
        self._file = file
        self._found = found
        self.damaged = False

    def __call__(self, cache: Cache) -> tuple[int, Mapping[int, Bytes]]:
        """See `Fill`."""
        length, states = cache.length, dict[int, Bytes]()
        for segment in self._found.to_read:
            pieces = cache.pieces(segment.start, segment.stop)
            try:
                state = segments.read(self._file, segment, pieces)
            except (DamagedError, OSError):
                self.damaged = True
                for piece in pieces:
                    piece[:] = 0  # attention multiplies them by nothing, which NaN does not bear
                length = min(length, segment.start // cache.block_positions * cache.block_positions)
                break
            if state is not None:
                states[segment.stop] = state
            length = min(segment.stop, self._found.n)
        return length, states
