"""Where the seconds of a reply go: phases, functions, operations by layer."""

from __future__ import annotations

import contextlib
import cProfile
import marshal
import pstats
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.engine.engine import Engine
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.events import Finished, LoadProgress, Timings
from llama_core.profiling.machine import peak_bytes
from llama_core.profiling.profile.operations import BETWEEN, OperationTable, percent, profile_operations
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint
from llama_core.profiling.texts import TEXT
from llama_core.sampling.params import SamplingParams

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
        """Items a second; 0 for a phase that took no time."""
        return self.items / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A row of cProfile. total_s excludes, cumulative_s includes the functions that this one called; the
    percentages are of the whole run."""

    name: str
    calls: int
    total_s: float
    cumulative_s: float
    percent: float
    cumulative_percent: float


@dataclass(frozen=True, slots=True)
class InferenceProfile:
    """One backend's profile. operations: of "prefill" and "decode", measured in a reply of their own.

    peak_bytes: the process's largest resident size up to the end of the plain reply. kv_bytes: reserved.
    interpreter_share: of a decode step's time, 0 to 1. pstats: what `python -m pstats` reads.
    """

    backend: str
    threads: int
    prompt_n: int
    generated_n: int
    phases: tuple[Phase, ...]
    timings: Timings
    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    scratch_bytes: int
    peak_bytes: int
    operations: dict[str, OperationTable]
    functions: tuple[FunctionRow, ...]
    interpreter_share: float
    pstats: bytes = field(repr=False)


@contextlib.contextmanager
def plain_steps(engine: Engine) -> Iterator[None]:
    """No guessed tokens: TEXT repeats itself, and a step would stand for several tokens."""
    drafter, engine.drafter = engine.drafter, None
    try:
        yield
    finally:
        engine.drafter = drafter


def encode(engine: TextEngine, n: int, prompt: str | None = None) -> tuple[list[int], Phase, Phase]:
    """`prompt`, else at least n tokens of plain English; the first encoding, which builds tables, and the
    second."""
    text = prompt or TEXT * (n // 32 + 2)
    seconds = []
    ids: list[int] = []
    for _ in range(2):
        start = time.perf_counter()
        ids = engine.tokenizer.encode(text)
        seconds.append(time.perf_counter() - start)
    first, again = (Phase(name, s, len(ids), "tok") for name, s in zip(_ENCODING, seconds, strict=True))
    return ids, first, again


def generate(engine: Engine, ids: list[int], n: int) -> tuple[Timings, tuple[int, ...]]:
    """A greedy reply of n tokens, from an empty context."""
    engine.reset()
    params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
    for event in engine.generate(ids, params):
        if isinstance(event, Finished):
            return event.timings, event.ids
    raise RuntimeError("the engine's stream ended without its last record")


def load_and_profile(
    path: Path, options: Mapping[str, Any], prompt_n: int, generated_n: int, prompt: str | None = None
) -> InferenceProfile:
    """Load a file and profile it. To be called through `in_fresh_process`, for the peak to be this model's.

    options: keywords of `load_engine`, whose errors it raises. prompt: a text instead of `prompt_n` tokens.
    """
    compiling: list[float] = []  # when the stage "kernels" began and ended, where there was one

    def on_progress(progress: LoadProgress) -> None:
        if progress.stage == "kernels":
            compiling.append(time.perf_counter())

    start = time.perf_counter()
    engine = load_engine(path, on_progress=on_progress, **options)
    compile_s = compiling[-1] - compiling[0] if compiling else 0.0
    load_s = time.perf_counter() - start - compile_s
    try:
        return profile_inference(
            engine, load_s, compile_s, prompt_n=prompt_n, generated_n=generated_n, prompt=prompt
        )
    finally:
        engine.close()


def profile_inference(
    engine: TextEngine,
    load_s: float,
    compile_s: float = 0.0,
    *,
    prompt_n: int = 128,
    generated_n: int = 64,
    top_functions: int = 20,
    prompt: str | None = None,
) -> InferenceProfile:
    """Take one reply apart, in three runs: plain (phases, rates), with operation timers, and under cProfile,
    which slows what it counts. load_s: what loading took; compile_s: what the first use of the compiled
    backend adds once, while the kernels are built."""
    generated_n = max(2, min(generated_n, engine.ctx_size - 1))
    most = engine.ctx_size - generated_n
    prompt_n = max(1, min(prompt_n, most))
    ids, encode_first, encode_again = encode(engine, prompt_n, prompt)
    ids = ids[: max(1, most) if prompt else prompt_n]
    with plain_steps(engine.engine):
        generate(engine.engine, ids, 2)  # the first pass pays for pages and caches
        timings, reply = generate(engine.engine, ids, generated_n)
        memory, peak = engine.memory(), peak_bytes()
        decode_text_s = _detokenise(engine, reply)
        operations = profile_operations(engine.engine, ids, generated_n)
        profiler = cProfile.Profile()
        profiler.runcall(generate, engine.engine, ids, generated_n)
        functions, stats = function_rows(profiler, top_functions)
    return InferenceProfile(
        backend=engine.backend,
        threads=engine.model.threads,
        prompt_n=len(ids),
        generated_n=len(reply),
        phases=(
            *([Phase("compiling the kernels, once", compile_s, 0, "")] if compile_s else []),
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
        kv_used_bytes=memory.kv_used_bytes,
        scratch_bytes=memory.scratch_bytes,
        peak_bytes=peak,
        operations=operations,
        functions=functions,
        interpreter_share=interpreter_share(engine.engine, operations["decode"], timings),
        pstats=stats,
    )


def _detokenise(engine: TextEngine, ids: tuple[int, ...]) -> float:
    """Seconds to turn tokens into text, one at a time as a reply does."""
    start = time.perf_counter()
    decoder = engine.tokenizer.stream()
    for token in ids:
        decoder.push(token)
    decoder.flush()
    return time.perf_counter() - start


def function_rows(profiler: cProfile.Profile, top: int) -> tuple[tuple[FunctionRow, ...], bytes]:
    """The functions with the most time of their own, and everything as a .pstats file's bytes."""
    stats = pstats.Stats(profiler)
    entries: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = stats.stats  # type: ignore[attr-defined]
    # The outermost function's: the own times add up to a little less, by what lies between them.
    whole = max(cumulative for _, _, _, cumulative, _ in entries.values())
    rows = [
        FunctionRow(
            _short(place), calls, total, cumulative, percent(total, whole), percent(cumulative, whole)
        )
        for place, (_, calls, total, cumulative, _) in entries.items()
    ]
    # As `Stats.dump_stats` writes them.
    return tuple(sorted(rows, key=lambda row: -row.total_s)[:top]), marshal.dumps(entries)


def interpreter_share(engine: Engine, decode: OperationTable, timings: Timings) -> float:
    """The part of a decode step that is Python and the calls it makes, not arithmetic, 0 to 1.

    The compiled model computes in calls of its own: what the clock saw around them is Python's. NumPy's calls
    are too many for that: a step over arrays of next to no size, with as many layers, takes the interpreter's
    time alone.
    """
    if not isinstance(engine.model, Llama):
        return sum(row.seconds for row in decode.rows if row.name == BETWEEN) / decode.total_s
    config = replace(
        engine.model.config,
        dim=8,
        hidden_dim=8,
        n_heads=2,
        n_kv_heads=1,
        head_dim=4,
        rope_dim=0,
        vocab_size=32,
    )
    weights = load_weights(random_checkpoint(config, NoTokenizer()))
    small = Engine(Llama(config, weights, 1), min(64, config.max_seq_len))
    n = small.ctx_size // 2
    seconds = [generate(small, [1, 2, 3], n)[0].predicted_s / (n - 1) for _ in range(5)]
    return min(1.0, min(seconds) * (timings.predicted_n - 1) / timings.predicted_s)


def _short(place: tuple[str, int, str]) -> str:
    """`model.py:12 forward`, or the name of a built-in."""
    file, line, name = place
    return name if file in ("~", "") else f"{Path(file).name}:{line} {name}"
