"""The ceiling: how fast a token could be if nothing but reading memory, or arithmetic, cost time.

Decoding one token reads every weight once and the keys and values of every position before it:

    time floor = max( (weight bytes + KV bytes) / bandwidth ,  multiply-adds / arithmetic peak )

A measured rate is stated as a fraction of the rate this allows (the roofline model: Williams, Waterman and
Patterson, Communications of the ACM 52(4), 2009). Bandwidth and peak are measured in the same run.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.backend import KvType
from llama_core.blas import BlasThreads
from llama_core.checkpoint import Checkpoint

BUFFER_BYTES = 128 << 20  # larger than any last-level cache of a desktop machine
F32_BYTES = 4


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What one decoded token needs. `kv_bytes_per_position`: bytes read for each position in the context.
    `head_multiply_adds`: the part of `multiply_adds` that a prompt needs for its last token only."""

    weight_bytes: int
    kv_bytes_per_position: float
    multiply_adds: int
    head_multiply_adds: int

    def bytes_at(self, position: int) -> float:
        """Bytes read for the token at `position` (that many positions lie before it)."""
        return self.weight_bytes + self.kv_bytes_per_position * position

    def decode_ceiling(self, bytes_per_s: float, position: int) -> float:
        """Tokens per second that memory allows at `position`. (Arithmetic never limits one row on a CPU.)"""
        return bytes_per_s / self.bytes_at(position)

    def prefill_ceiling(self, multiply_adds_per_s: float) -> float:
        """Prompt tokens per second that arithmetic allows: with many rows the weights stay in the cache."""
        return multiply_adds_per_s / (self.multiply_adds - self.head_multiply_adds)


def token_cost(checkpoint: Checkpoint, weights: Literal["file", "float32"], kv: KvType = "f32") -> TokenCost:
    """The cost of a decoded token with the file's own blocks, or with every weight as float32.

    Each matrix and norm is read once; of the embedding table one row, unless it is the head as well.
    """
    config = checkpoint.config
    weight_bytes = multiply_adds = 0
    for name, tensor in checkpoint.tensors.items():
        if name == "rope_freqs" or (name == "embed_tokens" and not config.tie_embeddings):
            continue
        n_values = int(np.prod(tensor.shape))
        weight_bytes += tensor.nbytes if weights == "file" else n_values * F32_BYTES
        if len(tensor.shape) == 2:
            multiply_adds += n_values
    # q8: one byte a value and a float32 scale for each head of 32 values or more is at most 1.125 bytes.
    value_bytes = {"f32": F32_BYTES, "f16": 2, "q8": 1.125}[kv]
    kv_bytes = 2 * config.n_layers * config.kv_dim * value_bytes
    return TokenCost(weight_bytes, kv_bytes, multiply_adds, config.vocab_size * config.dim)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second of reading a buffer of `buffer_bytes` again and again with `threads` threads."""

    bytes_per_s: float
    threads: int
    buffer_bytes: int
    method: str


def read_bandwidth(threads: int, passes: int = 6, buffer_bytes: int = BUFFER_BYTES) -> Bandwidth:
    """Measure once. Each thread reads its own part of the buffer `passes` times; the last to end counts.

    The loop is compiled where Numba is there, else a dot product of the buffer with itself.
    """
    method, read = _reader()
    n = buffer_bytes // 8 // threads
    parts = [np.ones(n, dtype=np.uint64) for _ in range(threads)]
    blas = BlasThreads(1)  # the fallback's product must not start threads of its own
    try:
        seconds = run_together([functools.partial(read, part) for part in parts], passes)
    finally:
        blas.restore()
    return Bandwidth(n * 8 * threads * passes / seconds, threads, n * 8 * threads, method)


def run_together(works: Sequence[Callable[[int], Any]], passes: int) -> float:
    """Each `work(passes)` on a thread of its own, all at once, after a `work(1)` to warm up: seconds from the
    first start to the last end."""
    barrier = threading.Barrier(len(works))
    spans: list[tuple[float, float]] = []

    def run(work: Callable[[int], Any]) -> None:
        work(1)
        barrier.wait()
        started = time.perf_counter()
        work(passes)
        spans.append((started, time.perf_counter()))

    workers = [threading.Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


Reader = Callable[[NDArray[np.uint64], int], Any]


@functools.cache
def _reader() -> tuple[str, Reader]:
    """A function that reads an array `passes` times without holding the GIL, and its name."""
    try:
        import numba
    except ImportError:

        def dot(part: NDArray[np.uint64], passes: int) -> None:
            values = part.view(np.float32)
            for _ in range(passes):
                np.dot(values, values)

        return "dot products (BLAS)", dot

    @numba.njit(nogil=True)
    def xor(part: NDArray[np.uint64], passes: int) -> np.uint64:
        total = np.uint64(0)
        for n in range(passes):
            for value in part:
                total ^= value + np.uint64(n)  # differs from pass to pass, so that none can be left out
        return total

    xor(np.ones(8, dtype=np.uint64), 1)
    return "compiled loop", xor


def float32_peak(repeats: int = 5) -> float:
    """Multiply-adds per second of a large float32 product, with the BLAS threads in force: the best run."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((512, 1024), dtype=np.float32)
    b = rng.standard_normal((1024, 1024), dtype=np.float32)
    out = np.empty((512, 1024), dtype=np.float32)
    best = float("inf")
    np.dot(a, b, out=out)
    for _ in range(repeats):
        started = time.perf_counter()
        np.dot(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return 512 * 1024 * 1024 / best
