"""Experiment 9: functions compiled one at a time, and the whole step."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import tensor_shapes
from llama_core.backends.base import Cache, Model
from llama_core.backends.jit import ISA_VARIABLE
from llama_core.blas import BlasThreads
from llama_core.profiling.lab.experiment import (
    FASTER,
    Case,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Part,
    Row,
    arrays_match,
)
from llama_core.profiling.lab.experiments import functions
from llama_core.profiling.lab.experiments.models import (
    NO_MODEL,
    compiled_model,
    default_checkpoint,
    fill,
    numpy_model,
)
from llama_core.profiling.synthetic import SMOLLM2_135M as SHAPE

# The row's name up to the colon.
STEP = "the whole decode step"
_NOTE = re.compile(r"compiled in ([\d.]+) s, needed (\d+) times a token")


def compile_note(seconds: float, per_token: int) -> str:
    """A row's note, which `conclude` reads again."""
    return f"compiled in {seconds:.2f} s, needed {per_token} times a token"


def step_compile_s() -> float | None:
    """Seconds in which the kernels of a whole step are built, as the first start on a machine does it: once,
    by a process of its own, into an empty folder. None where nothing came of it."""
    from llama_core.backends.jit.build.builder import start_builder
    from llama_core.backends.jit.build.library import unpacked
    from llama_core.backends.jit.build.variants import choose, host_features

    variant = choose(host_features(), os.environ.get(ISA_VARIABLE))
    start = time.perf_counter()
    child = start_builder(variant)
    if child is None or child.stdout is None:
        return None
    with child:  # Ctrl+C closes its stdin, which ends it
        built = unpacked(child.stdout.read())
        child.wait()
        seconds = time.perf_counter() - start
    return None if built is None else seconds


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """After how many tokens each compilation has paid for itself, where the ratio excludes 1."""
    sentences = []
    for row in rows:
        if row.ratio is None or row.before_s is None or row.after_s is None:
            continue
        name = re.split("[,:]", row.name)[0]
        told = _NOTE.search(row.note)
        if name == STEP:
            compile_s, times = step_compile_s(), 1
        else:
            compile_s, times = (float(told[1]), int(told[2])) if told else (None, 0)
        if compile_s is None:
            continue
        saved = (row.before_s.median - row.after_s.median) * times
        if row.ratio.high < 1:
            paid = "never paid back"
        elif row.ratio.low > 1 and saved > 0:
            paid = f"paid back after {compile_s / saved:,.0f} tokens"
        else:
            sides = f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
            paid = f"no break-even point can be given: the interval of its ratio includes 1 ({sides})"
        sentence = f"{name}: compiled in {compile_s:.2f} s, {paid}"
        if name == STEP and row.ratio.low > 1:
            sentence += " against NumPy's decode (once on a machine: the kernels are kept)"
        sentences.append(sentence)
    return sentences


F32 = NDArray[np.float32]
SIZE = 1024
NAME = f"product {SIZE} x {SIZE} on a GPU instead of the BLAS"


GPU_WHY = "more units multiply at once; the result is copied back, which counts"


class NoDevice(Exception):  # noqa: N818 - no error, a machine without a GPU
    """A library that is there and finds nothing to compute on."""


def _cupy(library: Any, host: F32) -> Callable[[], Any]:
    if not library.cuda.runtime.getDeviceCount():
        raise NoDevice
    a = library.asarray(host)
    return lambda: library.asnumpy(a @ a)


def _torch(library: Any, host: F32) -> Callable[[], Any]:
    if not library.cuda.is_available():
        raise NoDevice
    a = library.from_numpy(host).to("cuda")
    return lambda: (a @ a).cpu().numpy()


LIBRARIES: dict[str, Callable[[Any, F32], Callable[[], Any]]] = {"cupy": _cupy, "torch": _torch}


def gpu_row() -> Case | NotMeasured:
    """A large product with the matrix already on the device; copying the result back counts."""
    host = np.random.default_rng(9).standard_normal((SIZE, SIZE), dtype=np.float32)
    reasons = []
    for name, on_device in LIBRARIES.items():
        if importlib.util.find_spec(name) is None:
            reasons.append(f"{name} is not installed")
            continue
        try:
            product = on_device(importlib.import_module(name), host)
        except NoDevice:
            reasons.append(f"{name} finds no CUDA device")
        except Exception as error:  # noqa: BLE001 - drivers fail in ways of their own; the other rows stay
            reasons.append(f"{name}: {type(error).__name__}: {error}")
        else:
            before = partial(np.matmul, host, host)
            return Case(NAME, before, product, check=arrays_match(1e-3), note=f"by {name}", why=GPU_WHY)
    return NotMeasured(NAME, f"no GPU array library with a device: {', '.join(reasons)}")


CONTEXT = 256
ROWS = (1, 64)
N_LAYERS = SHAPE.n_layers
SQUARE = (SHAPE.dim, SHAPE.dim)


@dataclass(frozen=True, slots=True)
class Function:
    """One function: NumPy's form, the loop that Numba compiles, how many calls with the inputs of one row a
    token needs, and its inputs for n rows."""

    name: str
    numpy: Callable[..., Any]
    loop: Callable[..., Any]
    per_token: int
    inputs: Callable[[np.random.Generator, int], tuple[Any, ...]]
    claim: Claim = FASTER
    why: Callable[[], str] = lambda: "NumPy makes a pass and a temporary for each operator, the loop neither"
    part: Part | None = None


def exponentials() -> str:
    """Where loops of exponentials stand beside NumPy's, which uses the processor's vectors."""
    import numba

    if getattr(numba.config, "USING_SVML", False):
        return "Numba calls Intel's vector exponential (SVML) here, as NumPy has its own"
    return (
        "Numba finds no SVML here, so that its loop calls the C library for each exponential; NumPy's own "
        "takes a vector at a time"
    )


def machine_code() -> str:
    """Why a plain loop loses to the BLAS."""
    return "the BLAS keeps blocks of both matrices in registers and caches, the loop reads anew for each row"


def part_of(operation: str, calls: float) -> Part:
    """A part of the default model's decode step behind CONTEXT tokens."""
    return Part((operation,), calls, "decode", "default", CONTEXT)


def _scores(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return (rng.standard_normal((SHAPE.n_heads * n, CONTEXT), dtype=np.float32),)


def _gate(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return (rng.standard_normal((n, SHAPE.hidden_dim), dtype=np.float32),)


def _heads(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    angles = rng.uniform(0, 6, (n, SHAPE.head_dim // 2)).astype(np.float32)
    # Queries and keys alike, in one call.
    x = rng.standard_normal((n, SHAPE.n_heads + SHAPE.n_kv_heads, SHAPE.head_dim), dtype=np.float32)
    return x, np.cos(angles), np.sin(angles)


def _stream(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    return x, rng.standard_normal(SHAPE.dim, dtype=np.float32)


def _attention(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    q = rng.standard_normal((n * SHAPE.n_heads // SHAPE.n_kv_heads, SHAPE.head_dim), dtype=np.float32)
    keys = rng.standard_normal((CONTEXT, SHAPE.head_dim), dtype=np.float32)
    return q / np.float32(8), keys, rng.standard_normal((CONTEXT, SHAPE.head_dim), dtype=np.float32)


def _product(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    weight = rng.standard_normal(SQUARE, dtype=np.float32)
    return rng.standard_normal((n, SHAPE.dim), dtype=np.float32), weight


def tensors_of(shape: tuple[int, ...]) -> int:
    """How many tensors of this shape the model has; a token visits each once."""
    return [found for _, found in tensor_shapes(SHAPE, ())].count(shape)


FUNCTIONS = (
    Function("softmax", functions.softmax, functions.softmax_loop, N_LAYERS, _scores, why=exponentials),
    Function("SiLU", functions.silu, functions.silu_loop, N_LAYERS, _gate, why=exponentials),
    Function("RoPE", functions.rope, functions.rope_loop, N_LAYERS, _heads, part=part_of("RoPE", N_LAYERS)),
    Function(
        "norm",
        functions.norm,
        functions.norm_loop,
        tensors_of((SHAPE.dim,)),
        _stream,
        part=part_of("norm", tensors_of((SHAPE.dim,))),
    ),
    Function(
        "attention of one KV head",
        functions.attention,
        functions.attention_loop,
        SHAPE.n_kv_heads * N_LAYERS,
        _attention,
        why=exponentials,
        part=part_of("attention", SHAPE.n_kv_heads * N_LAYERS),
    ),
    # The BLAS is hand-written machine code: a plain loop should lose.
    Function(
        f"product {SHAPE.dim} x {SHAPE.dim}",
        functions.product,
        functions.product_loop,
        tensors_of(SQUARE),
        _product,
        Claim(0.0, 1.0),
        machine_code,
    ),
)


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    if importlib.util.find_spec("numba") is None:
        yield NotMeasured("all functions", "Numba is not installed")
    else:
        # One thread on both sides: Numba's loops have one, and the BLAS would take all.
        blas = BlasThreads(1)
        try:
            yield from _function_cases(context)
        finally:
            blas.restore()
    yield from _step_cases(context)
    yield gpu_row()


def compile_loop(loop: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[..., Any], float]:
    """The loop compiled for these inputs, and the seconds which that took."""
    import numba

    compiled = numba.njit(fastmath=True, nogil=True)(loop)
    start = time.perf_counter()
    compiled(*inputs)
    return compiled, time.perf_counter() - start


def _function_cases(context: LabContext) -> Iterator[Case]:
    rng = np.random.default_rng(9)
    # Thrown away: the first function of a process would pay for the start of the compiler itself.
    compile_loop(functions.silu_loop, _gate(rng, 1))
    for function in FUNCTIONS:
        inputs = {n: function.inputs(rng, n) for n in ROWS}
        compiled, compile_s = compile_loop(function.loop, inputs[1])
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
                why=f"one thread on both sides; {function.why()}",
                part=function.part if n == 1 else None,
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
    compiled = compiled_model(context, checkpoint)
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
    for name, token, at, claim in (
        (STEP, ids[-1:], n - 1, Claim(2.0)),
        (f"the whole prefill of {n}", ids, 0, Claim(1.0)),
    ):
        yield Case(
            name=f"{name}: compiled model instead of NumPy",
            before=partial(_compute, plain, caches[0], token, at),
            after=partial(_compute, compiled, caches[1], token, at),
            claim=claim,
            check=agrees,
            work=len(token),
            unit="tok",
            note=compiled.backend,
            headline=True,
            why="the weights stay in their blocks, fewer bytes than float32's, and a step is one call "
            "without temporaries",
        )


_PROMPT = (
    "The lighthouse stood at the end of the land, and every evening its keeper climbed the stairs to light "
    "the lamp. He had done so for thirty years, in every kind of weather, and he knew the sound of each"
)


EXPERIMENT = Experiment(
    number=9,
    name="compiled",
    title="Compiled functions: one at a time and the whole step",
    hypothesis="On one thread compiled loops beat NumPy, where a call does little (one row) and where it "
    "does more (64), and lose to the BLAS in products; the whole step over packed weights decodes at "
    "least 2 times as fast as NumPy's and prefills faster; so does a GPU multiply large matrices",
    refuted_if="a function's loop is slower than NumPy at 1 or 64 rows, the product's loop faster, the "
    "compiled step less than 2x NumPy's in decoding or slower in prefill, a GPU slower than the BLAS, or "
    "outputs differ (functions by more than 1e-4 of the largest value, the GPU's product by 1e-3; of the "
    "compiled step, which rounds activations to 8 bits, fewer than 7 of the top 10 tokens are NumPy's or the "
    "cosine is at most 0.99)",
    cases=cases,
    conclude=conclude,
    processes=2,
    whole=True,
)
