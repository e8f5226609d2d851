"""Experiment 15: what makes a load fast, and what was tried and does not."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.chunks import cut
from llama_core.backends.jit.packing import pack_here
from llama_core.backends.jit.plan import PackingPlan, plan_packing
from llama_core.backends.jit.streaming import PackKernels, stream_chunks
from llama_core.config import ModelConfig
from llama_core.loaders import open_checkpoint
from llama_core.profiling.lab.experiment import Case, Claim, Experiment, LabContext, NotMeasured, same
from llama_core.profiling.lab.experiments.limits import threads_of
from llama_core.profiling.random_gguf import random_gguf

# 150 million weights in the mix of a usual download: 100 MB, some dozens of huge pages for each thread.
SHAPE = ModelConfig(
    dim=1024,
    hidden_dim=2816,
    n_layers=12,
    n_heads=16,
    n_kv_heads=4,
    head_dim=64,
    vocab_size=8192,
    max_seq_len=1024,
    name="150M shape, Q4_K_M",
)
SMALL_CHUNK_BYTES = 1 << 18
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Way:
    """How a file is packed. streams: compiled code reads by itself; chunk_bytes: None for the usual; huge: in
    huge pages; ahead: every page is taken before the first byte is packed; beside_python: another thread
    holds the interpreter's lock whenever it can get it, as one that builds a tokenizer's tables does."""

    streams: bool = True
    chunk_bytes: int | None = None
    huge: bool = True
    ahead: bool = False
    beside_python: bool = False


class Packing:
    """Packs all of a model into fresh memory, as a load does; the result is a sum over its bytes."""

    def __init__(self, plan: PackingPlan, kernels: PackKernels, threads: int, way: Way) -> None:
        self._plan, self._kernels, self._threads, self._way = plan, kernels, threads, way

    def __call__(self) -> int:
        """One load, from nothing to packed."""
        way = self._way
        with _busy_python() if way.beside_python else contextlib.nullcontext():
            arena = Arena(self._plan.nbytes, huge=way.huge)
            if way.ahead:
                arena.bytes[:: mmap.PAGESIZE] = 0
            matrices = self._plan.matrices.values()
            chunks = [
                chunk
                for matrix, memory in zip(matrices, (arena.take(m.nbytes) for m in matrices), strict=True)
                for part in matrix.parts
                for chunk in cut(part, address(memory), way.chunk_bytes)
            ]
            if way.streams:
                chunks = stream_chunks(chunks, self._kernels, self._threads, _ignore)
            pack_here(chunks, self._kernels, self._threads, _ignore)
        words: NDArray[np.uint64] = arena.bytes[: len(arena.bytes) // 8 * 8].view(np.uint64)
        return int(np.bitwise_xor.reduce(words))


def _ignore(nbytes: int) -> None:
    pass


@contextlib.contextmanager
def _busy_python() -> Iterator[None]:
    """A thread that computes in Python for as long as the block."""
    over = threading.Event()

    def work() -> None:
        n = 0
        while not over.is_set():
            n += sum(range(1000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; the file is made when the first is asked for."""
    kernels = _kernels(context)
    if isinstance(kernels, str):
        yield NotMeasured("loads", kernels)
        return
    plan, size = _plan(context)
    threads = threads_of(context)

    def packing(**way: Any) -> Callable[[], int]:
        return Packing(plan, kernels, threads, Way(**way))

    usual = packing()
    what = f"packing {size / MIB:.0f} MiB of Q4_K_M"
    rows = (
        (
            "compiled code reads and packs, instead of Python chunk by chunk",
            packing(streams=False),
            usual,
            Claim(0.95),
            "nothing else runs, and the lock is had at once",
        ),
        (
            "the same beside a thread that computes in Python",
            packing(streams=False, beside_python=True),
            packing(beside_python=True),
            Claim(1.2),
            "each chunk asks three times for a lock that the other gives up every 5 ms",
        ),
        (
            "chunks of 4 MiB instead of 0.25",
            packing(chunk_bytes=SMALL_CHUNK_BYTES),
            usual,
            Claim(),
            "two threads that meet in a huge page both clear it, and one of the two is thrown away",
        ),
        (
            "huge pages instead of small ones",
            packing(huge=False),
            usual,
            Claim(1.2),
            "one fault for 2 MiB instead of 512",
        ),
        (
            "all pages taken beforehand, instead of at first use",
            usual,
            packing(ahead=True),
            Claim(0.0, 1.05),
            "clearing is the same work, done by one thread alone and before the others begin",
        ),
    )
    for name, before, after, claim, why in rows:
        yield Case(
            name=f"{what}: {name}",
            before=before,
            after=after,
            claim=claim,
            check=same,
            work=size / MIB,
            unit="MiB",
            headline=True,
            why=why,
        )


def _kernels(context: LabContext) -> PackKernels | str:
    """The compiled entries that pack, or why there are none."""
    from llama_core.backends import jit

    reason = jit.jit_available()
    if reason is not None:
        return reason
    from llama_core.backends.jit.build.builder import KernelLoad
    from llama_core.backends.jit.build.variants import choose, host_features

    try:
        kernels: PackKernels = context.share(
            "kernels that pack",
            KernelLoad(choose(host_features()), context.kernel_cache, kernel_set="k").library,
        )
        return kernels
    except Exception as error:  # noqa: BLE001 - a compiler's errors have no common base
        return f"{type(error).__name__}: {error}"


def _plan(context: LabContext) -> tuple[PackingPlan, int]:
    """What is packed, and the bytes of the file that holds it, which is gone with the context."""

    def make() -> tuple[PackingPlan, int, object]:
        folder = tempfile.TemporaryDirectory(prefix="llama-chat-lab-")
        path = random_gguf(Path(folder.name) / "model.gguf", SHAPE, "Q4_K_M", seed=15)
        checkpoint = open_checkpoint(path)
        return plan_packing(checkpoint.config, checkpoint.tensors), path.stat().st_size, folder

    plan, size, _ = context.share("a file to load", make)
    return plan, size


EXPERIMENT = Experiment(
    number=15,
    name="loading",
    title="Loading",
    hypothesis="A load is as fast as memory if compiled code reads the file by itself, in pieces that stay "
    "in a core's cache, and puts the result into huge pages that only one thread touches first; it then "
    "minds no other thread that computes in Python",
    refuted_if="beside a thread in Python it is not a fifth faster than Python's chunks, alone it is slower, "
    "small pages or small chunks are as fast, or taking all pages beforehand gains more than a twentieth",
    cases=cases,
    processes=2,
    whole=True,
)
