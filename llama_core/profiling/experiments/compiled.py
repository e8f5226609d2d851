"""Experiment 9: functions compiled one at a time, and the whole step."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from llama_core.backend import Cache, Model
from llama_core.profiling.experiment import (
    FASTER,
    Case,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    arrays_match,
)
from llama_core.profiling.experiments import loops, vectors
from llama_core.profiling.experiments.break_even import STEP, compile_note, conclude, step_compile_s
from llama_core.profiling.experiments.models import (
    NO_MODEL,
    compiled_model,
    default_checkpoint,
    fill,
    numpy_model,
    token_ids,
)
from llama_core.profiling.synthetic import SMOLLM2_135M as SHAPE

CONTEXT = 256
ROWS = (1, 64)
N_LAYERS = SHAPE.n_layers


@dataclass(frozen=True, slots=True)
class Function:
    """One function: NumPy's form, the loop that Numba compiles, how often a token needs it, and its inputs
    for n rows."""

    name: str
    numpy: Callable[..., Any]
    loop: Callable[..., Any]
    per_token: int
    inputs: Callable[[np.random.Generator, int], tuple[Any, ...]]
    claim: Claim = FASTER


def _scores(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return (rng.standard_normal((SHAPE.n_heads * n, CONTEXT), dtype=np.float32),)


def _gate(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return (rng.standard_normal((n, SHAPE.hidden_dim), dtype=np.float32),)


def _heads(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    angles = rng.uniform(0, 6, (n, SHAPE.head_dim // 2)).astype(np.float32)
    x = rng.standard_normal((n, SHAPE.n_heads, SHAPE.head_dim), dtype=np.float32)
    return x, np.cos(angles), np.sin(angles)


def _stream(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    return x, rng.standard_normal(SHAPE.dim, dtype=np.float32)


def _attention(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    q = rng.standard_normal((n * SHAPE.n_heads // SHAPE.n_kv_heads, SHAPE.head_dim), dtype=np.float32)
    keys = rng.standard_normal((CONTEXT, SHAPE.head_dim), dtype=np.float32)
    return q / np.float32(8), keys, rng.standard_normal((CONTEXT, SHAPE.head_dim), dtype=np.float32)


def _product(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    weight = rng.standard_normal((SHAPE.dim, SHAPE.dim), dtype=np.float32)
    return rng.standard_normal((n, SHAPE.dim), dtype=np.float32), weight


FUNCTIONS = (
    Function("softmax", vectors.softmax, loops.softmax, N_LAYERS, _scores),
    Function("SiLU", vectors.silu, loops.silu, N_LAYERS, _gate),
    Function("RoPE", vectors.rope, loops.rope, N_LAYERS, _heads),
    Function("norm", vectors.norm, loops.norm, 2 * N_LAYERS + 1, _stream),
    Function("attention of one KV head", vectors.attention, loops.attention, 3 * N_LAYERS, _attention),
    # The BLAS is hand-written machine code: a plain loop should lose.
    Function("product 576 x 576", vectors.product, loops.product, N_LAYERS, _product, Claim(0.0, 1.0)),
)


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    if importlib.util.find_spec("numba") is None:
        yield NotMeasured("all functions", "Numba is not installed")
    else:
        yield from _function_cases(context)
    yield from _step_cases(context)
    yield gpu_row()


def _function_cases(context: LabContext) -> Iterator[Case]:
    import numba

    rng = np.random.default_rng(9)
    for function in FUNCTIONS:
        compiled = numba.njit(fastmath=True, nogil=True)(function.loop)
        inputs = {n: function.inputs(rng, n) for n in ROWS}
        start = time.perf_counter()
        compiled(*inputs[1])
        compile_s = time.perf_counter() - start
        for n in ROWS:
            yield Case(
                name=f"{function.name}, {n} {'row' if n == 1 else 'rows'}: compiled loop instead of NumPy",
                before=partial(function.numpy, *inputs[n]),
                after=partial(compiled, *inputs[n]),
                claim=function.claim,
                check=arrays_match(1e-4),
                note=compile_note(compile_s, function.per_token) if n == 1 else "",
                headline=n == 1 and function.name in ("norm", "softmax"),
                budget_s=context.budget_s / 3,
            )


def _compute(model: Model, cache: Cache, ids: Any, at: int) -> Any:
    cache.truncate(at)
    return fill(model, cache, ids)


def agrees(before: Any, after: Any) -> Match:
    """The compiled step rounds activations to 8 bits: its logits are close, and it should choose alike."""
    left, right = np.asarray(before, np.float64), np.asarray(after, np.float64)
    cosine = float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
    common = len(set(np.argsort(left)[-10:]) & set(np.argsort(right)[-10:]))
    words = f"8-bit activations: cosine {cosine:.5f}, {common} of the top 10 in common"
    return Match(cosine > 0.99 and common >= 7, words)


def _step_cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("the whole step", NO_MODEL)
        return
    start = time.perf_counter()
    compiled = compiled_model(context, checkpoint)
    load_s = time.perf_counter() - start
    if isinstance(compiled, str):
        yield NotMeasured("the whole step", compiled)
        return
    plain = numpy_model(context, checkpoint)
    # Real words: on random tokens the distribution is flat, and the top ids mean little.
    ids = np.asarray(checkpoint.tokenizer.encode(_PROMPT), dtype=np.int32)
    n = len(ids)
    caches = plain.new_cache(n + 1), compiled.new_cache(n + 1)
    for model, cache in ((plain, caches[0]), (compiled, caches[1])):
        fill(model, cache, ids)
    compile_s = step_compile_s()
    compiling = f"; {compile_note(compile_s, 1)}" if compile_s else ""
    for name, token, at, claim, more in (
        (STEP, ids[-1:], n - 1, Claim(2.0), compiling),
        (f"the whole prefill of {n}", ids, 0, Claim(1.0), ""),
    ):
        yield Case(
            name=f"{name}: compiled model instead of NumPy",
            before=partial(_compute, plain, caches[0], token, at),
            after=partial(_compute, compiled, caches[1], token, at),
            claim=claim,
            check=agrees,
            work=len(token),
            unit="tok",
            note=f"{compiled.backend}; loaded in {load_s:.2f} s (or earlier in this run){more}",
            headline=True,
        )


_PROMPT = (
    "The lighthouse stood at the end of the land, and every evening its keeper climbed the stairs to light "
    "the lamp. He had done so for thirty years, in every kind of weather, and he knew the sound of each"
)


def gpu_row() -> Case | NotMeasured:
    """A large product on the GPU, where an array library and a device are present."""
    name = "product 1024 x 1024 on a GPU instead of the BLAS"
    if importlib.util.find_spec("cupy") is None:
        return NotMeasured(name, "no GPU array library (cupy) is installed")
    import cupy  # type: ignore[import-not-found]

    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return NotMeasured(name, f"cupy finds no device: {error}")
    if not devices:
        return NotMeasured(name, "cupy finds no device")
    host = token_ids(1024 * 1024, 256).reshape(1024, 1024).astype(np.float32)
    device = cupy.asarray(host)
    return Case(name, lambda: host @ host, lambda: cupy.asnumpy(device @ device), check=arrays_match(1e-3))


EXPERIMENT = Experiment(
    number=9,
    name="compiled",
    title="Compiled functions: one at a time and the whole step",
    hypothesis="Compiled loops beat NumPy where a call does little (one row) and lose to the BLAS in "
    "products; the gain comes from compiling the whole step over packed weights",
    refuted_if="a function's loop is slower than NumPy, the product's loop faster, or the compiled step less "
    "than 2x NumPy's in decoding",
    cases=cases,
    conclude=conclude,
)
