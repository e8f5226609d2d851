"""Where the bytes are, and what a pass of a prompt and a token take meanwhile (memray: which lines do)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import sys
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, MemoryReport
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.events import PrefillProgress, TokenEvent
from llama_core.memory import resident_bytes
from llama_core.profiling.profile.inference import encode, plain_steps
from llama_core.sampling.params import SamplingParams


def resident_part(arrays: Iterable[NDArray[Any]]) -> int:
    """Bytes of the pages under `arrays` (which share none) that are in memory; 0 where the system does not
    tell: this asks Linux (mincore(2))."""
    if not sys.platform.startswith("linux"):
        return 0
    libc: Any = ctypes.CDLL(None)
    total = 0
    for array in arrays:
        first = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        n_bytes = array.ctypes.data + array.nbytes - first
        pages = np.zeros(-(-n_bytes // mmap.PAGESIZE), dtype=np.uint8)
        address = ctypes.c_void_p(pages.ctypes.data)
        if libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(n_bytes), address) == 0:
            total += int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE
    return total


def mapped_file_bytes(path: Path) -> int:
    """How much of this process's resident size are pages of a file; 0 where the system does not tell."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError, AttributeError):  # macOS has no such list
        name = str(path.resolve())
        return sum(int(part.rss) for part in psutil.Process().memory_maps() if part.path == name)
    return 0


@dataclass(frozen=True, slots=True)
class StepAllocation:
    """One step of a reply ("prefill": a pass over a part of the prompt; "decode": a token computed and the
    next one drawn) under tracemalloc, which sees Python's and NumPy's memory.

    peak_bytes: the most allocated at any moment beyond what was there before; kept_bytes: what is left of it
    afterwards.
    """

    name: str
    tokens: int
    peak_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryProfile:
    """The parts add up to `account.resident_bytes`: before_bytes (the interpreter and the libraries loaded
    before the model), the account's weights, keys and values in use (of `context_n` positions) and scratch,
    kv_page_bytes (the rest of the pages that the keys and values in use lie on), file_bytes (pages of the
    model's file) and rest_bytes (libraries and code loaded with the model, the tokenizer, what the allocator
    keeps; less scratch that was never touched). capacity_n: positions that the cache has room for.
    """

    backend: str
    account: MemoryReport
    context_n: int
    capacity_n: int
    before_bytes: int
    kv_page_bytes: int
    file_bytes: int
    rest_bytes: int
    steps: tuple[StepAllocation, ...]


def profile_memory(
    engine: TextEngine, before_bytes: int, *, prompt_n: int = 128, generated_n: int = 64
) -> MemoryProfile:
    """Account for the memory after a reply of `generated_n` tokens to a prompt of `prompt_n`, then watch one
    prefill pass and one decode step.

    before_bytes: the process's resident size before the model was loaded. Raises what the engine raises.
    """
    ids = encode(engine, prompt_n)[0]
    generated_n = max(3, min(generated_n, engine.ctx_size - 2))
    ids = ids[: max(1, min(prompt_n, engine.ctx_size - generated_n))]
    with plain_steps(engine.engine):
        for _ in _passes(engine, ids, generated_n):
            pass
        gc.collect()
        account = engine.memory()
        context_n = len(engine.engine.cached_ids)
        kv_resident = resident_part(_arrays(engine.engine._context.cache))
        kv_page_bytes = max(0, kv_resident - account.kv_used_bytes)
        file_bytes = mapped_file_bytes(engine.checkpoint.path)
        steps = tuple(_watch(engine, ids, name) for name in ("prefill", "decode"))
    kv_bytes = account.kv_used_bytes + kv_page_bytes
    explained = account.weights_bytes + kv_bytes + account.scratch_bytes + file_bytes
    return MemoryProfile(
        backend=engine.backend,
        account=account,
        context_n=context_n,
        capacity_n=engine.ctx_size,
        before_bytes=before_bytes,
        kv_page_bytes=kv_page_bytes,
        file_bytes=file_bytes,
        rest_bytes=account.resident_bytes - before_bytes - explained,
        steps=steps,
    )


def _passes(engine: TextEngine, ids: list[int], n: int) -> Generator[tuple[str, int], None, None]:
    """A greedy reply from an empty context, advanced by one pass at a time: (name, its tokens) of the pass
    that asking for the next item will take, so that a caller can watch it."""
    engine.reset()
    chunk = engine.model.prefill_chunk
    params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
    for event in engine.engine.generate(ids, params):
        if isinstance(event, PrefillProgress):
            left = event.total_n - event.done_n
            yield ("prefill" if left else "first token"), min(chunk, left)
        elif isinstance(event, TokenEvent):
            yield "decode", 1


def _watch(engine: TextEngine, ids: list[int], name: str) -> StepAllocation:
    """The first prefill pass, or the second decode step, of a reply."""
    passes = _passes(engine, ids, 3)
    coming = next(passes)
    if name == "decode":
        while coming[0] != "decode":
            coming = next(passes)
        coming = next(passes)  # the first step of a reply grows its buffers
    gc.collect()
    try:
        peak, kept = _peak(lambda: next(passes, None))
    finally:
        passes.close()
    return StepAllocation(name, coming[1], peak, kept)


def _peak(function: Callable[[], Any]) -> tuple[int, int]:
    """The most that `function()` allocates at once, and what it keeps, in bytes."""
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        function()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - base, kept - base


def _arrays(cache: Cache) -> list[NDArray[Any]]:
    """A cache's arrays; the compiled model's are the bytes of arenas."""
    values = (getattr(value, "bytes", value) for value in vars(cache).values())
    return [value for value in values if isinstance(value, np.ndarray)]


def load_and_profile(
    path: Path, options: Mapping[str, Any], prompt_n: int, generated_n: int
) -> MemoryProfile:
    """Load a file and profile it. To be called through `in_fresh_process`, for the memory to be this model's.

    options: keywords of `load_engine`. Raises what it raises.
    """
    before = resident_now()
    engine = load_engine(path, **options)
    try:
        return profile_memory(engine, before, prompt_n=prompt_n, generated_n=generated_n)
    finally:
        engine.close()


def resident_now() -> int:
    """The process's resident size, for `before_bytes`."""
    gc.collect()
    return resident_bytes()
