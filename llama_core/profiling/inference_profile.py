"""Where the seconds of a reply go: phases, functions, operations by layer."""

from __future__ import annotations

import cProfile
import pstats
import time
from dataclasses import dataclass, field
from pathlib import Path

from llama_core.engine.engine import Engine
from llama_core.engine.events import Finished, Timings
from llama_core.engine.load import Backend, load_engine
from llama_core.engine.text import TextEngine
from llama_core.model import Llama
from llama_core.profiling.op_timers import OPERATIONS, OpTimers, timed_operations
from llama_core.sampling import SamplingParams

TEXT = (
    "The lighthouse keeper wrote in his log every evening: the wind, the ships that passed, and the number "
    "of steps he had climbed. On the longest night of the year he found a line in the book that he had not "
    "written, in a hand that he did not know, and it gave tomorrow's date. "
)
_ENCODING = ("tokenisation, first use", "tokenisation")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the work. `items` are tokens (bytes of the file for loading), `seconds` its time."""

    name: str
    seconds: float
    items: int
    unit: str

    @property
    def per_second(self) -> float:
        return self.items / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A row of cProfile. total_s excludes, cumulative_s includes the functions that this one called."""

    name: str
    calls: int
    total_s: float
    cumulative_s: float
    percent: float


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation: seconds over all layers, its share, its calls, and the seconds of each layer."""

    name: str
    seconds: float
    percent: float
    calls: int
    by_layer: dict[int, float]


@dataclass(frozen=True, slots=True)
class InferenceProfile:
    """One backend's profile. Operations are empty for a backend that computes a step in one call;
    `timers_cost` is the decode rate with operation timers over the rate without."""

    backend: str
    threads: int
    prompt_n: int
    generated_n: int
    phases: tuple[Phase, ...]
    timings: Timings
    weights_bytes: int
    kv_bytes: int
    scratch_bytes: int
    peak_bytes: int
    functions: tuple[FunctionRow, ...]
    operations: dict[str, tuple[OperationRow, ...]] = field(default_factory=dict)
    timers_cost: float | None = None


def encode(engine: TextEngine, n: int) -> tuple[list[int], Phase, Phase]:
    """At least n tokens of plain English; the first encoding, which builds tables, and the second."""
    text = TEXT * (n // 32 + 2)
    seconds = []
    ids: list[int] = []
    for _ in range(2):
        start = time.perf_counter()
        ids = engine.tokenizer.encode(text)
        seconds.append(time.perf_counter() - start)
    first, again = (Phase(name, s, len(ids), "tok") for name, s in zip(_ENCODING, seconds, strict=True))
    return ids, first, again


def generate(
    engine: Engine, ids: list[int], n: int, *, fresh: bool = True
) -> tuple[Timings, tuple[int, ...]]:
    """A greedy reply of n tokens, from an empty context where `fresh`."""
    if fresh:
        engine.reset()
    params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
    for event in engine.generate(ids, params):
        if isinstance(event, Finished):
            return event.timings, event.ids
    raise RuntimeError("the engine's stream ended without its last record")


def profile_inference(
    path: Path,
    backend: Backend,
    *,
    prompt_n: int = 128,
    generated_n: int = 64,
    threads: int | None = None,
    kernel_cache: Path | None = None,
    tokenizer_path: Path | None = None,
    top_functions: int = 20,
) -> InferenceProfile:
    """Load the file and take one reply apart, in three runs: plain (phases, rates), with operation timers,
    and under cProfile, which slows what it counts. Raises what `load_engine` raises."""
    from llama_core.profiling.bench_start import peak_bytes

    start = time.perf_counter()
    engine = load_engine(
        path, backend=backend, threads=threads, kernel_cache=kernel_cache, tokenizer_path=tokenizer_path
    )
    load_s = time.perf_counter() - start
    try:
        ids, encode_first, encode_again = encode(engine, prompt_n)
        ids = ids[: max(1, min(prompt_n, engine.ctx_size - generated_n - 1))]
        generate(engine.engine, ids[:8], 2)  # the first pass pays for pages and caches
        timings, reply = generate(engine.engine, ids, generated_n)
        start = time.perf_counter()
        decoder = engine.tokenizer.stream()
        for token in reply:
            decoder.push(token)
        decoder.flush()
        decode_text_s = time.perf_counter() - start
        memory = engine.memory()
        operations, timers_cost = _operations(engine, ids, generated_n, timings)
        return InferenceProfile(
            backend=engine.backend,
            threads=engine.model.threads,
            prompt_n=len(ids),
            generated_n=len(reply),
            phases=(
                Phase("model loading", load_s, engine.checkpoint.file_bytes, "B"),
                encode_first,
                encode_again,
                Phase("prefill", timings.prompt_s, timings.prompt_n, "tok"),
                Phase("decode", timings.predicted_s, timings.predicted_n - 1, "tok"),
                Phase("detokenisation", decode_text_s, len(reply), "tok"),
            ),
            timings=timings,
            weights_bytes=memory.weights_bytes,
            kv_bytes=memory.kv_bytes,
            scratch_bytes=memory.scratch_bytes,
            peak_bytes=peak_bytes(),
            functions=_functions(engine, ids, generated_n, top_functions),
            operations=operations,
            timers_cost=timers_cost,
        )
    finally:
        engine.close()


def _operations(
    engine: TextEngine, ids: list[int], n: int, plain: Timings
) -> tuple[dict[str, tuple[OperationRow, ...]], float | None]:
    """Rows for prefill and decode, and what the timers cost; nothing for another model than NumPy's."""
    if not isinstance(engine.model, Llama):
        return {}, None
    with timed_operations() as timers:
        generate(engine.engine, ids, 1)
        rows = {"prefill": operation_rows(timers)}
        engine.engine.prompt_logits(ids)
        timers.reset()
        timings, _ = generate(engine.engine, ids, n, fresh=False)  # the prompt is in the cache already
        rows["decode"] = operation_rows(timers)
    cost = timings.predicted_per_second / plain.predicted_per_second if plain.predicted_per_second else None
    return rows, cost


def operation_rows(timers: OpTimers) -> tuple[OperationRow, ...]:
    """What the timers saw, the most expensive first."""
    totals = {name: timers.total(name) for name in OPERATIONS}
    whole = sum(totals.values()) or 1.0
    rows = [
        OperationRow(name, seconds, 100 * seconds / whole, timers.calls[name], timers.by_layer(name))
        for name, seconds in totals.items()
        if timers.calls[name]
    ]
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _functions(engine: TextEngine, ids: list[int], n: int, top: int) -> tuple[FunctionRow, ...]:
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        generate(engine.engine, ids, n)
    finally:
        profiler.disable()
    stats = pstats.Stats(profiler)
    entries: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = stats.stats  # type: ignore[attr-defined]
    whole = sum(total for _, _, total, _, _ in entries.values()) or 1.0
    rows = [
        FunctionRow(_short(place), calls, total, cumulative, 100 * total / whole)
        for place, (_, calls, total, cumulative, _) in entries.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.total_s)[:top])


def _short(place: tuple[str, int, str]) -> str:
    """`model.py:12 forward`, or the name of a built-in."""
    file, line, name = place
    return name if file in ("~", "") else f"{Path(file).name}:{line} {name}"
