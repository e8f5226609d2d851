"""Where the bytes are, and which lines allocate while a token is made."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.backend import Cache, MemoryReport, Model
from llama_core.engine.load import Backend, load_engine
from llama_core.engine.text import TextEngine
from llama_core.system_memory import resident_bytes

_WARM_STEPS = 3


@dataclass(frozen=True, slots=True)
class AllocatingLine:
    """What a line had allocated since the step began and still held in the middle of it."""

    place: str
    held_bytes: int
    blocks: int


@dataclass(frozen=True, slots=True)
class StepAllocation:
    """One step under tracemalloc, which sees Python's and NumPy's memory.

    peak_bytes: the most allocated at any moment of the step beyond what was there before; kept_bytes: what
    is left of it afterwards; lines: who held how much before the middle layer, the largest first.
    """

    name: str
    tokens: int
    peak_bytes: int
    kept_bytes: int
    lines: tuple[AllocatingLine, ...]


@dataclass(frozen=True, slots=True)
class MemoryProfile:
    """`account` is the engine's own, `unaccounted_bytes` the resident size it does not explain (the
    interpreter, NumPy, the tokenizer), negative where reserved pages were never touched."""

    backend: str
    account: MemoryReport
    before_bytes: int
    unaccounted_bytes: int
    steps: tuple[StepAllocation, ...]


def profile_memory(
    engine: TextEngine, before_bytes: int, *, prompt_n: int = 64, top: int = 12
) -> MemoryProfile:
    """Trace the prefill of `prompt_n` tokens and one decode step, both warm.

    before_bytes: the process's resident size before the model was loaded.
    """
    model = engine.model
    prompt_n = max(1, min(prompt_n, model.prefill_chunk, engine.ctx_size - 1))
    prompt = (np.arange(prompt_n) % model.config.vocab_size).astype(np.int32)
    cache = model.new_cache(prompt_n + 1)
    steps = []
    for name, ids in (("prefill", prompt), ("decode", prompt[:1])):
        start = cache.length
        for _ in range(_WARM_STEPS):
            model.forward(ids, cache)
            cache.truncate(start)
        steps.append(_trace(name, model, ids, cache, top))
    del cache
    gc.collect()
    account = engine.memory()
    explained = account.weights_bytes + account.kv_used_bytes + account.scratch_bytes + account.mapped_bytes
    rest = account.resident_bytes - before_bytes - explained
    return MemoryProfile(engine.backend, account, before_bytes, rest, tuple(steps))


def _trace(name: str, model: Model, ids: NDArray[np.int32], cache: Cache, top: int) -> StepAllocation:
    """One `forward` under tracemalloc. The model asks `cancelled` before every layer, which is where the
    picture of the middle is taken; a model that does not ask has its picture taken at the end."""
    polls = 0
    middle: list[tracemalloc.Snapshot] = []

    def look() -> bool:
        nonlocal polls
        polls += 1
        if polls == model.config.n_layers // 2 + 1:
            middle.append(tracemalloc.take_snapshot())
        return False

    def step(cancelled: Callable[[], bool] | None) -> None:
        model.forward(ids, cache, cancelled=cancelled)

    length = cache.length
    gc.collect()
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        step(None)
        kept, peak = tracemalloc.get_traced_memory()
        cache.truncate(length)
        before = tracemalloc.take_snapshot()
        step(look)
        picture = middle[0] if middle else tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    filters = [tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, __file__)]
    differences = picture.filter_traces(filters).compare_to(before.filter_traces(filters), "lineno")
    lines = [
        AllocatingLine(
            f"{Path(d.traceback[0].filename).name}:{d.traceback[0].lineno}", d.size_diff, d.count_diff
        )
        for d in differences
        if d.size_diff > 0
    ]
    lines.sort(key=lambda line: -line.held_bytes)
    return StepAllocation(name, len(ids), peak - base, kept - base, tuple(lines[:top]))


def profile_in_fresh_process(
    path: Path,
    backend: Backend,
    *,
    threads: int | None = None,
    ctx_size: int | None = None,
    kernel_cache: Path | None = None,
    tokenizer_path: Path | None = None,
) -> MemoryProfile:
    """`profile_memory` of a file in a process of its own: what ran before in this one would blur the account.

    Raises what `load_engine` raises.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(
            _load_and_profile, path, backend, threads, ctx_size, kernel_cache, tokenizer_path
        ).result()


def _load_and_profile(
    path: Path,
    backend: Backend,
    threads: int | None,
    ctx_size: int | None,
    kernel_cache: Path | None,
    tokenizer_path: Path | None,
) -> MemoryProfile:
    before = resident_now()
    engine = load_engine(
        path,
        backend=backend,
        threads=threads,
        ctx_size=ctx_size,
        kernel_cache=kernel_cache,
        tokenizer_path=tokenizer_path,
    )
    try:
        return profile_memory(engine, before)
    finally:
        engine.close()


def resident_now() -> int:
    """The process's resident size, for `before_bytes`."""
    gc.collect()
    return resident_bytes()
