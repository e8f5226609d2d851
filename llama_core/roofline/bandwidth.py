"""How fast memory can be read: in the compiled backend's way, without its arithmetic.

    thread 0 | its part of the buffer, line after line, again and again |    thread 1 | its own part |

Huge pages, whole cache lines, and the same two ways of asking ahead that decoding chooses from
(`jit/prefetch.py`): the faster one counts. The buffer is many times as large as the last cache, so that
memory alone is measured. Of a small model a part may still lie in that cache when its turn comes again, and
on a shared machine memory itself changes from minute to minute (46 to 84 GB/s were seen within one hour):
either may lift decoding above its ceiling.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.prefetch import DISTANCES
from llama_core.blas import BlasThreads
from llama_core.cpu import last_level_cache_bytes
from llama_core.roofline.instruments import compiled, own_isa, run_together

LEAST_BUFFER_BYTES = 256 << 20
CACHES = 8  # how many last caches' worth of buffer are read
LINE_BYTES = 64
LINES_AT_ONCE = 5  # as many as a block of 4-bit weights has


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second of reading a buffer of `buffer_bytes` again and again with `threads` threads."""

    bytes_per_s: float
    threads: int
    buffer_bytes: int
    method: str


Read = Callable[[NDArray[np.uint8], int], Any]  # a thread's part of the buffer, passes


def read_bandwidth(threads: int, passes: int = 3) -> Bandwidth:
    """Measure once, in each way. Each thread reads its own part of the buffer `passes` times; the last to
    end counts.

    The loops are compiled where llvmlite is there, else a dot product of the buffer with itself reads.
    """
    unit = LINES_AT_ONCE * LINE_BYTES
    n = max(LEAST_BUFFER_BYTES, CACHES * last_level_cache_bytes()) // threads // unit * unit
    arenas = [Arena(n, huge=True) for _ in range(threads)]
    for arena in arenas:
        arena.bytes[:] = 1  # memory that was never written is one page of zeros
    method, reads = _ways()
    blas = BlasThreads(1)  # the fallback's product must not start threads of its own
    try:
        seconds = min(
            run_together([functools.partial(read, arena.bytes) for arena in arenas], passes) for read in reads
        )
    finally:
        blas.restore()
    return Bandwidth(n * threads * passes / seconds, threads, n * threads, method)


def _ways() -> tuple[str, list[Read]]:
    """Functions that read an array some times without holding the GIL, and what to call them."""
    try:
        kernel = compiled(own_isa(), write_read, "read", 5)
    except ImportError:
        return "dot products (BLAS)", [_dot]

    def read(ahead: int, part: NDArray[np.uint8], passes: int) -> None:
        out = np.empty(LINE_BYTES * LINES_AT_ONCE, dtype=np.uint8)
        kernel(address(part), len(part), passes, ahead, address(out))

    return "compiled loop", [functools.partial(read, distance) for distance in DISTANCES]


def _dot(part: NDArray[np.uint8], passes: int) -> None:
    values = part.view(np.float32)
    for _ in range(passes):
        np.dot(values, values)


def write_read(module: Any, isa: Isa) -> None:
    """`read(at, nbytes, passes, ahead, out)`: all lines of `nbytes`, `passes` times, asked for `ahead` bytes
    before they are read; their exclusive or goes to `out`."""
    from llama_core.backends.jit.kernels.emit import I32, Code, vector

    code = Code(module, "read", 5)
    at, nbytes, passes, ahead, out = code.args
    type_, vector_bytes = vector(I32, isa.lanes), 4 * isa.lanes
    line_vectors = LINE_BYTES // vector_bytes
    sums = [code.var(code.splat(type_, 0)) for _ in range(LINES_AT_ONCE * line_vectors)]
    with code.loop(0, passes), code.loop(0, nbytes, LINES_AT_ONCE * LINE_BYTES) as i:
        for line in range(LINES_AT_ONCE):
            code.prefetch(at + i + ahead + line * LINE_BYTES)
        for k, total in enumerate(sums):
            total.set(total.get() ^ code.load(type_, at + i + k * vector_bytes))
        code.keep_order()  # or the next pass, which gives the same, could be left out
    for k, total in enumerate(sums):
        code.store(total.get(), out + k * vector_bytes)
    code.finish()
