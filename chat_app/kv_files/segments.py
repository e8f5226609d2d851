"""The file of one chat's keys and values: segments, each behind the one before.

    file      | magic, key | segment | segment | ...
    segment   | head | ids | checksums | piece | piece | ... | state |

A segment holds positions start..stop; the next one begins where it ends. Its pieces are the cache's own bytes
(`Cache.pieces`), so that what is read back is what was computed, bit for bit. The state is that after `stop`
positions, of models that have one. Each piece has its CRC-32, and so have head, ids and checksums together,
which are written last: a segment that a crash cut off has no head, and the file ends before it.

Checksums find damage, not forgery: who may write the file is judged where it is opened.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.engine.context import Held

Bytes = NDArray[np.uint8]

MAGIC = b"llama-chat kv 1\n"
KEY_BYTES = 32
_HEAD = struct.Struct("<4sIIIQQdI")  # mark, start, stop, pieces, bytes of each, of the state, seconds, CRC
_MARK = b"SEGM"
# Threads that read and compute checksums; several where they can read at places of their own.
READERS = 2 if hasattr(os, "preadv") else 1


class DamagedError(Exception):
    """What a segment holds is not what was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Where positions start..stop stand in the file. ids: (stop - start,) int32; seconds: what computing
    them took; sums: the CRC-32 of each piece and of the state, (n_pieces + 1,) uint32; body: the place of the
    first piece."""

    start: int
    stop: int
    piece_bytes: int
    state_bytes: int
    seconds: float
    ids: NDArray[np.int32]
    sums: NDArray[np.uint32]
    body: int

    @property
    def end(self) -> int:
        """The place behind it."""
        return self.body + (len(self.sums) - 1) * self.piece_bytes + self.state_bytes


def begin(file: io.FileIO, key: bytes) -> int:
    """Make it an empty file of this key; returns the place of the first segment. Raises OSError."""
    file.truncate(0)
    _write_all(file, 0, MAGIC + key)
    return len(MAGIC) + len(key)


def scan(file: io.FileIO, key: bytes) -> list[Segment]:
    """The segments whose heads are whole, in order; none in a file of another key. Raises OSError."""
    size = file.seek(0, os.SEEK_END)
    if _read(file, 0, len(MAGIC) + KEY_BYTES) != MAGIC + key:
        return []
    found: list[Segment] = []
    at, position = len(MAGIC) + KEY_BYTES, 0
    while (segment := _segment(file, at, position, size)) is not None:
        found.append(segment)
        at, position = segment.end, segment.stop
    return found


def _segment(file: io.FileIO, at: int, start: int, size: int) -> Segment | None:
    """The segment at this place; None where there is none that is whole and begins at position `start`."""
    head = _read(file, at, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, first, stop, n_pieces, piece_bytes, state_bytes, seconds, crc = _HEAD.unpack(head)
    if mark != _MARK or first != start or stop <= start:
        return None
    tables = 4 * (stop - start) + 4 * (n_pieces + 1)
    body = at + _HEAD.size + tables
    if body + n_pieces * piece_bytes + state_bytes > size:
        return None
    data = _read(file, at + _HEAD.size, tables)
    if len(data) < tables or zlib.crc32(data, zlib.crc32(head[:-4])) != crc:
        return None
    ids = np.frombuffer(data, np.int32, stop - start)
    sums = np.frombuffer(data, np.uint32, n_pieces + 1, ids.nbytes)
    return Segment(start, stop, piece_bytes, state_bytes, seconds, ids, sums, body)


def agrees(segment: Segment, held: Held) -> bool:
    """Whether the cache holds what the segment holds, by the checksums."""
    pieces = held.cache.pieces(segment.start, segment.stop)
    found: list[int] = [zlib.crc32(piece.data) for piece in pieces]
    return found == [int(one) for one in segment.sums[:-1]]


def size_of(start: int, held: Held) -> int:
    """Bytes of the segment that `append` would write."""
    pieces = held.cache.pieces(start, len(held.ids))
    state_bytes = 0 if held.state is None else held.state.nbytes
    tables = 4 * (len(held.ids) - start + len(pieces) + 1)
    return _HEAD.size + tables + sum(piece.nbytes for piece in pieces) + state_bytes


def append(file: io.FileIO, at: int, start: int, held: Held, seconds: float) -> bool:
    """Write the positions of `held` from `start` on at place `at`, where the file then ends. False, and
    nothing is added, where they were given up meanwhile. Raises OSError; the file may then end in what is no
    segment."""
    ids = np.array(held.ids[start:], dtype=np.int32)
    pieces = held.cache.pieces(start, len(held.ids))
    state = np.empty(0, np.uint8) if held.state is None else held.state
    file.truncate(at)
    place = body = at + _HEAD.size + ids.nbytes + 4 * (len(pieces) + 1)
    sums = np.empty(len(pieces) + 1, np.uint32)
    for n, piece in enumerate((*pieces, state)):
        if not held.intact:
            break
        data = piece.tobytes()  # the last block's later positions may change under us
        _write_all(file, place, data)
        sums[n] = zlib.crc32(data)
        place += len(data)
    if not held.intact:
        file.truncate(at)
        return False
    piece_bytes = pieces[0].nbytes if pieces else 0
    head = _HEAD.pack(_MARK, start, len(held.ids), len(pieces), piece_bytes, state.nbytes, seconds, 0)
    tables = ids.tobytes() + sums.tobytes()
    crc = zlib.crc32(tables, zlib.crc32(head[:-4]))
    _write_all(file, body - len(tables) - len(head), head[:-4] + struct.pack("<I", crc) + tables)
    return True


def read(file: io.FileIO, segment: Segment, pieces: Sequence[Bytes]) -> Bytes | None:
    """Fill the cache's `pieces` of the segment's positions; returns the state, None where it has none.

    Raises DamagedError, OSError; the pieces then hold anything.
    """
    if len(pieces) != len(segment.sums) - 1 or any(one.nbytes != segment.piece_bytes for one in pieces):
        raise DamagedError("the segment is of another shape")
    state = np.empty(segment.state_bytes, np.uint8)
    everything = [*pieces, state]
    places = [segment.body + n * segment.piece_bytes for n in range(len(everything))]
    with ThreadPoolExecutor(READERS, "kv-read") as readers:
        sums = list(readers.map(lambda at, piece: _read_into(file, at, piece), places, everything))
    if sums != segment.sums.tolist():
        raise DamagedError("a checksum does not agree")
    return state if segment.state_bytes else None


def common_ids(known: Sequence[Segment], wanted: Sequence[int] | NDArray[np.int32]) -> int:
    """How many of the wanted ids are those of the segments, from the first one on."""
    if not known:
        return 0
    ids = np.concatenate([one.ids for one in known])[: len(wanted)]
    differ = np.flatnonzero(ids != np.asarray(wanted, np.int32)[: len(ids)])
    return int(differ[0]) if len(differ) else len(ids)


def _read(file: io.FileIO, at: int, n: int) -> bytes:
    """Up to n bytes from place `at`."""
    file.seek(at)
    return b"".join(_chunks(file, n))


def _chunks(file: io.FileIO, n: int) -> Iterator[bytes]:
    while n and (chunk := file.read(n)):
        yield chunk
        n -= len(chunk)


def _read_into(file: io.FileIO, at: int, piece: Bytes) -> int:
    """Fill a piece from place `at`; returns its CRC-32. Raises DamagedError at the end of the file."""
    left = piece.data
    while left:
        if READERS > 1:
            n = os.preadv(file.fileno(), [left], at)
        else:
            file.seek(at)
            n = file.readinto(left) or 0
        if not n:
            raise DamagedError("the file is too short")
        left, at = left[n:], at + n
    return zlib.crc32(piece.data)


def _write_all(file: io.FileIO, at: int, data: bytes | memoryview) -> None:
    file.seek(at)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
