"""Every experiment compares two ways to the same output: checked here without a clock, on a toy model."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType, SimpleNamespace

import numpy as np
import pytest

from chat_app.commands import lab as commands_lab
from chat_app.commands import lab_screen
from llama_core.backend import Cache
from llama_core.jit import kernel_build
from llama_core.jit.library import Built, write_built
from llama_core.jit.variants import PORTABLE, VARIANTS, host_features
from llama_core.profiling.bandwidth import Bandwidth
from llama_core.profiling.experiment import (
    Case,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Row,
    Timed,
)
from llama_core.profiling.experiments import (
    annotated_locals,
    batching,
    break_even,
    compiled,
    dtype,
    gpu,
    kernels,
    kv_types,
    memory,
    models,
    products,
    scaling,
    texts,
    together,
    tokenizer,
)
from llama_core.profiling.roofline import TokenCost
from llama_core.profiling.statistics import Interval, Spread
from llama_core.tokenizers.spm_bpe import SPACE

# Rows whose first version takes seconds; smaller ones of the same kind are checked.
SLOW_ROWS = ("10,000 characters", "first 10 merges", "(32, 256", "instead of list.index")


@pytest.fixture(scope="module")
def context(tiny_model: Path, kernel_cache: Path) -> Iterator[LabContext]:
    made = LabContext(model_path=tiny_model, kernel_cache=kernel_cache, budget_s=0.01)
    yield made
    for value in made.cache.values():
        if hasattr(value, "close"):
            value.close()


def shared(before: object, after: object) -> bool:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return np.shares_memory(before, after)
    return False


def output(case: Case, side: str) -> object:
    if case.prepare is not None:
        case.prepare()
    found = getattr(case, side)()
    return found.output if isinstance(found, Timed) else found


# These two run whole models for long enough to matter.
LONG = ("dtype", "screen")


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(e, id=e.name, marks=[pytest.mark.slow] if e.name in LONG else [])
        for e in commands_lab.registry()
    ],
)
def test_before_and_after_give_the_same(
    experiment: Experiment, context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many layers overflow the processor's cache, which matters to a clock alone.
    monkeypatch.setattr(products, "N_LAYERS", 2)
    monkeypatch.setattr(memory, "N_LAYERS", 2)
    # The kernels were built once for all tests.
    monkeypatch.setattr(compiled, "step_compile_s", lambda: 4.0)
    # Those between are compiled for the tests of the kernels.
    variants = [isa for isa in VARIANTS.values() if all(host_features().get(f) for f in isa.needs)]
    monkeypatch.setattr(kernels, "VARIANTS", {isa.name: isa for isa in (variants[0], PORTABLE)})
    # A random model's few hundred tokens: rounding alone moves its perplexity by a tenth of a per cent.
    monkeypatch.setattr(kv_types, "GROWTH", dict.fromkeys(kv_types.GROWTH, 0.005))
    names = []
    for case in experiment.cases(context):
        assert case.name not in names
        names.append(case.name)
        if isinstance(case, NotMeasured):
            assert case.reason
        elif not any(slow in case.name for slow in SLOW_ROWS):
            before = output(case, "before")
            kept = copy.deepcopy(before)
            after = output(case, "after")
            assert not shared(before, after), f"{case.name}: one buffer cannot show a difference"
            np.testing.assert_equal(before, kept)
            match = case.check(before, after)
            assert match.ok, f"{case.name}: {match.text}"
    assert names


def row(name: str, before_s: float, after_s: float, work: float = 1.0, note: str = "") -> Row:
    sides = [Spread(s, s, s, 6) for s in (before_s, after_s)]
    ratio = Interval(before_s / after_s, before_s / after_s, before_s / after_s)
    return Row(name, "confirmed", "faster", ratio, *sides, work=work, unit="tok", note=note)


@pytest.mark.parametrize("which", [0, 1])
def test_a_cache_that_holds_something_else_is_seen(
    which: int, context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The appended position is the caller's own on both sides: what tells caches apart is all the rest."""
    monkeypatch.setattr(memory, "N_LAYERS", 2)
    [case, *_] = [case for case in memory.cases(context) if "preallocated" in case.name]
    assert case.check(output(case, "before"), output(case, "after")).ok
    case.after.layers[-1][which][0, 5] += 1  # type: ignore[attr-defined]
    assert not case.check(output(case, "before"), output(case, "after")).ok


def test_bytecode_that_differs_refutes_though_the_outputs_match() -> None:
    def plain(x: np.ndarray) -> np.ndarray:
        return x + x

    def other(x: np.ndarray) -> np.ndarray:
        return 2 * x

    x = np.ones((2, 3), np.float32)
    assert isinstance(plain, FunctionType)
    assert isinstance(other, FunctionType)
    assert annotated_locals.alike(plain, plain)(plain(x), plain(x)).ok
    found = annotated_locals.alike(plain, other)(plain(x), other(x))
    assert found == Match(False, "identical, the bytecode differs")


def test_the_mask_in_a_decode_step_is_a_control_and_no_finding(context: LabContext) -> None:
    controls = [case for case in dtype.cases(context) if case.name.startswith("control: ")]
    assert [case.name for case in controls] == [
        "control: decode, only mask closed",
        "control: decode, mask the last to close",
    ]
    assert not any(case.headline for case in controls)


def test_a_decode_step_that_differs_from_the_prompt_is_seen(context: LabContext) -> None:
    """The check computes with the same model, whose logits are one buffer: it must not see itself."""
    step = next(case for case in scaling.cases(context) if isinstance(case, Case) and "decode" in case.name)
    good = np.asarray(output(step, "after"))
    assert step.check(None, good).ok
    assert not step.check(None, good + np.float32(1)).ok
    wrong = step.after
    wrong.token = wrong.token + 1  # type: ignore[attr-defined]
    assert not step.check(None, output(step, "after")).ok


def test_a_decode_step_says_what_it_was_held_against_and_what_its_bytes_predict(context: LabContext) -> None:
    steps = [one for one in scaling.cases(context) if isinstance(one, Case) and ", decode at " in one.name]
    checkpoint = models.default_checkpoint(context)
    assert checkpoint is not None
    for step in steps:
        backend, n = step.name.split(",")[0], scaling._length(row(step.name, 1, 1))
        cost = scaling.cost_of(backend, checkpoint)
        predicted = cost.bytes_at(16) / cost.bytes_at(int(n))
        assert step.claim.low < predicted < step.claim.high <= 1.05
        assert step.claim.low == pytest.approx(0.75 * predicted, abs=0.006)
        assert f"{predicted:.2f}x is what the bytes predict" in step.note
        assert "the same tokens as one prompt" in step.check(None, output(step, "after")).text
    assert {step.name.split(",")[0] for step in steps} == {"numpy", "jit"}


def test_a_decode_step_is_timed_behind_the_same_step(context: LabContext) -> None:
    """The other side's step leaves the processor's cache full of its own keys and values."""
    found = (one for one in scaling.cases(context) if isinstance(one, Case))
    case = next(one for one in found if ", decode at " in one.name)
    step = case.after
    assert isinstance(step, scaling.Decoding)
    real, ends = step.model, []

    class Watched:
        def forward(self, ids: np.ndarray, cache: Cache) -> np.ndarray:
            assert cache.length == step.context
            logits = real.forward(ids, cache)
            ends.append(time.perf_counter())
            return logits

    step.model = Watched()  # type: ignore[assignment]
    timed = step()
    first, _ = ends
    assert timed.seconds <= time.perf_counter() - first
    # Each call is timed by itself, however short: the step before it does not count.
    assert case.prepare is not None


def test_the_reference_of_a_decode_step_is_no_decode_step(context: LabContext) -> None:
    """A prompt cut from the front would end in one token: the step would be held against itself."""
    [(_, model), *_] = models.models(context, models.default_checkpoint(context))  # type: ignore[arg-type]
    passes: list[int] = []

    class Watched:
        prefill_chunk = 16
        new_cache = model.new_cache

        def forward(self, ids: np.ndarray, *args: object, **keywords: object) -> np.ndarray:
            passes.append(len(ids))
            return model.forward(ids, *args, **keywords)  # type: ignore[arg-type]

    ids = models.token_ids(33, model.config.vocab_size)
    for n, expected in ((33, [1, 16, 16]), (32, [16, 16]), (20, [4, 16]), (7, [7])):
        passes.clear()
        found = scaling.as_prompt(Watched(), ids[:n])  # type: ignore[arg-type]
        assert passes == expected
        whole = model.forward(ids[:n], model.new_cache(n))
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)


def test_break_even_counts_the_calls_of_a_token(context: LabContext) -> None:
    rows = [
        row("norm, 1 row: x", 12e-6, 2e-6, note="compiled in 0.61 s, needed 61 times a token"),
        row("SiLU, 1 row: x", 2e-6, 4e-6, note="compiled in 0.50 s, needed 30 times a token"),
        row("norm, 64 rows: x", 12e-6, 2e-6),
        replace(
            row("softmax, 1 row: x", 12e-6, 11e-6, note="compiled in 0.70 s, needed 30 times a token"),
            ratio=Interval(1.09, 0.98, 1.2),
        ),
        row(f"{break_even.STEP}: x", 16e-3, 4e-3, note=f"jit; {break_even.compile_note(6.0, 1)}"),
    ]
    assert break_even.conclude(context, rows) == [
        "norm: compiled in 0.61 s, paid back after 1,000 tokens",
        "SiLU: compiled in 0.50 s, never paid back",
        (
            "softmax: compiled in 0.70 s, no break-even point can be given: the interval of its ratio "
            "includes 1 (0.98 to 1.20)"
        ),
        (
            f"{break_even.STEP}: compiled in 6.00 s, paid back after 500 tokens against NumPy's decode "
            "(once on a machine: the kernels are kept)"
        ),
    ]


def test_a_function_is_counted_as_often_as_a_token_calls_it() -> None:
    """SmolLM2-135M: 30 layers, whose square matrices are q and o, 3 KV heads, a norm at the end."""
    assert {function.name: function.per_token for function in compiled.FUNCTIONS} == {
        "softmax": 30,
        "SiLU": 30,
        "RoPE": 30,
        "norm": 61,
        "attention of one KV head": 90,
        "product 576 x 576": 60,
    }
    rng = np.random.default_rng(0)
    shapes = {f.name: [a.shape for a in f.inputs(rng, 1)] for f in compiled.FUNCTIONS}
    assert shapes["RoPE"][0] == (1, 9 + 3, 64)  # queries and keys
    assert shapes["softmax"][0] == (9, compiled.CONTEXT)  # all heads
    assert shapes["attention of one KV head"][0] == (3, 64)


def test_the_first_function_does_not_pay_for_the_compilers_start(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter((9.0, *range(1, 9)))
    monkeypatch.setattr(compiled, "compile_loop", lambda loop, inputs: (loop, next(took)))
    first = next(case for case in compiled.cases(context) if isinstance(case, Case))
    assert "compiled in 1.00 s" in first.note


def fake_gpu(monkeypatch: pytest.MonkeyPatch, **libraries: object) -> None:
    monkeypatch.setattr(gpu.importlib.util, "find_spec", libraries.get)
    monkeypatch.setattr(gpu.importlib, "import_module", libraries.__getitem__)


class OnDevice(np.ndarray):
    """What torch would hold: moved there and back by methods of these names."""

    def to(self, device: str) -> np.ndarray:
        assert device == "cuda"
        return self

    def cpu(self) -> np.ndarray:
        return self

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def fake_torch(available: bool) -> SimpleNamespace:
    cuda = SimpleNamespace(is_available=lambda: available)
    return SimpleNamespace(cuda=cuda, from_numpy=lambda a: a.view(OnDevice))


def test_a_gpu_is_looked_for_with_both_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch)
    none = gpu.gpu_row()
    assert isinstance(none, NotMeasured)
    assert "cupy is not installed, torch is not installed" in none.reason

    def broken() -> int:
        raise RuntimeError("the driver is too old")

    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=broken)))
    fake_gpu(monkeypatch, cupy=cupy, torch=fake_torch(False))
    none = gpu.gpu_row()
    assert isinstance(none, NotMeasured)
    assert "cupy: RuntimeError: the driver is too old, torch finds no CUDA device" in none.reason

    fake_gpu(monkeypatch, cupy=cupy, torch=fake_torch(True))
    case = gpu.gpu_row()
    assert isinstance(case, Case)
    assert case.note == "by torch"
    assert case.check(case.before(), case.after()).ok


def test_the_step_row_tells_what_compiling_it_took(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "FUNCTIONS", ())
    monkeypatch.setattr(compiled, "step_compile_s", lambda: 4.0)
    [step] = [case for case in compiled.cases(context) if case.name.startswith(break_even.STEP)]
    assert isinstance(step, Case)
    [sentence] = break_even.conclude(context, [row(step.name, 16e-3, 4e-3, note=step.note)])
    assert "compiled in 4.00 s, paid back after 333 tokens" in sentence


@pytest.mark.parametrize("works", [True, False])
def test_compiling_counts_only_when_kernels_come_of_it(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def builder(isa: object, result: Path) -> subprocess.Popen[bytes]:
        folders.append(result.parent)
        assert not any(result.parent.iterdir())
        built = Built((b"code",), {"run": 0})
        if works:
            write_built(result, built)
        return subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL)

    monkeypatch.setattr(kernel_build, "start_builder", builder)
    found = break_even.step_compile_s()
    assert (found is not None and found > 0) if works else found is None
    assert not folders[0].exists()


@pytest.mark.slow
def test_a_whole_step_is_built_anew_each_time() -> None:
    assert all((break_even.step_compile_s() or 0) > 0.1 for _ in range(2))


def test_the_batch_model_finds_the_costs_it_was_made_of(context: LabContext) -> None:
    rows = [
        row(f"numpy, batch {n} behind 32 tokens", 1.0, 0.010 + 0.002 * n, work=n) for n in (1, 2, 4, 8, 16)
    ]
    (sentence,) = batching.conclude(context, rows)
    assert "10.0 ms and 2.00 ms for each sequence" in sentence
    assert "381 tok/s at batch 16" in sentence


def test_the_scaling_fits_find_the_costs_they_were_made_of(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = TokenCost(weight_bytes=8000, kv_bytes_per_position=1, multiply_adds=1200, head_multiply_adds=200)
    monkeypatch.setattr(scaling, "token_cost", lambda checkpoint, weights: cost)
    monkeypatch.setattr(scaling, "read_bandwidth", lambda threads: Bandwidth(1e6, threads, 1 << 27, "told"))
    monkeypatch.setattr(scaling, "float32_peak", lambda: 2e6)
    monkeypatch.setattr(scaling, "integer_peak", lambda threads: 4e6)
    lengths = (64, 256, 1024, 2048)
    rows = []
    for name in ("numpy", "jit"):
        for n in lengths:
            rows.append(row(f"{name}, decode at {n:,} instead of 16 tokens", 1.0, 0.016 + 2e-6 * n))
            rows.append(row(f"{name}, prefill of {n:,}: chunks", 1.0, n * (1e-3 + 1e-7 * n), work=n))
        for n in scaling.BATCHES:
            rows.append(row(f"{name}, batch {n} behind 64 tokens", 1.0, 0.012 + 0.004 * n, work=n))
    _, decode, batch, prefill, _, jit_batch, jit_prefill = scaling.conclude(context, rows)
    assert "16.00 ms + 2.00 us a position (within 0%)" in decode
    assert "memory alone allows 8.00 ms + 1.00 us" in decode
    assert "0.50 at 64 positions and 0.50 at 2,048 positions" in decode
    assert "12.0 ms and 4.00 ms for each sequence" in batch
    # Batch 1 waits for memory, (8000 + 64) / 1e6 s of 16 ms; batch 64 for 64 * 1200 products, of 268 ms.
    assert "0.50 at batch 1 and 0.14 at batch 64" in batch
    assert "0.50 at batch 1 and 0.07 at batch 64" in jit_batch
    assert "1000 us a token + 100.0 ns for each token" in prefill
    # 1000 products a token: 2,000 tok/s at most, of 994 at 64 tokens and 830 at 2,048.
    assert "allow 2,000 tok/s, of which it reaches 0.50 at 64 and 0.42 at 2,048 tokens" in prefill
    assert "allow 4,000 tok/s, of which it reaches 0.25 at 64 and 0.21 at 2,048 tokens" in jit_prefill


def test_the_first_merges_are_those_of_the_whole_text() -> None:
    text = texts.text_of(40).replace(" ", SPACE)
    for merges in (0, 3, 10**6):
        by_list, by_dict = (
            made().encode(text, merges) for made in (texts.list_tokenizer, texts.dict_tokenizer)
        )
        assert by_list == by_dict
        assert len(by_dict) == max(len(text) - merges, len(texts.dict_tokenizer().encode(text)))


def test_only_rows_that_say_so_read_words_seen_before(context: LabContext) -> None:
    """On the very same text again a cache turns encoding into one lookup a word."""
    engine = texts.engine_tokenizer(cached=False)
    assert engine.encode(texts.text_of(94)) == texts.engine_tokenizer().encode(texts.text_of(94))
    assert not engine._cache
    for case in (*tokenizer.cases(context), *together.cases(context)):
        if isinstance(case, Case) and "characters" in case.name:
            bound = getattr(case.after, "func", None)
            encoder = getattr(bound, "__self__", None)
            cached = getattr(encoder, "CACHE_PIECE_LENGTH", 0) > 0
            assert cached == ("words seen before" in case.name)
            assert not (cached and case.headline)
            if hasattr(encoder, "_cache") and not cached:
                case.after()
                assert not encoder._cache


def test_the_default_models_tokenizer_keeps_its_own_cache(context: LabContext) -> None:
    checkpoint = models.default_checkpoint(context)
    assert checkpoint is not None
    own = checkpoint.tokenizer
    before = own.encode("once upon a time")
    bare = texts.uncached(own)
    assert bare.encode("once upon a time") == before
    assert own._cache  # type: ignore[attr-defined]
    assert not bare._cache  # type: ignore[attr-defined]


def test_the_screens_rows_say_how_they_were_measured(context: LabContext) -> None:
    [sentence] = lab_screen.conclude(
        context, [row("default model, jit: in the app instead of headless", 2, 2)]
    )
    for part in ("Textual's test driver", "nothing to a terminal", "the same app runs idle", "own clock"):
        assert part in sentence
    assert lab_screen.conclude(context, [Row("default model", "not measured", "", note="absent")]) == []


def test_the_growth_of_list_index_is_told(context: LabContext) -> None:
    rows = [
        row("94 characters: dict instead of list.index", 0.6, 1e-3, 94),
        row("11 characters: dict instead of list.index", 0.01, 1e-3, 11),
        row("1,000 characters, the first 10 merges: dict instead of list.index", 3.0, 1e-3, 10),
    ]
    rows = [replace(one, unit="merge" if "merges" in one.name else "char") for one in rows]
    growth, whole = tokenizer.conclude(context, rows)
    assert "8.5 times the text took 60 times as long" in growth
    # 0.3 ms a pair; 862 merges leave 138 tokens: 862 * (1000 + 138) / 2 pairs are looked up.
    assert "10 merges took 3.0 s; all 862" in whole
    assert "about 2 minutes" in whole
