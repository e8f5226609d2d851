"""Every experiment compares two ways to the same output: checked here without a clock, on a toy model."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import FunctionType

import numpy as np
import pytest

from chat_app.commands import lab as commands_lab
from llama_core.backends.jit.build.variants import AVX2, PORTABLE, VARIANTS, host_features
from llama_core.profiling.lab.experiment import (
    Case,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
)
from llama_core.profiling.lab.experiments import (
    annotated_locals,
    attention,
    compiled,
    drafting,
    dtype,
    kernels,
    kv_types,
    loading,
    memory,
    models,
    packed_types,
    panels,
    products,
    texts,
    together,
    tokenizer,
)
from llama_core.tokenizers.spm_bpe import SPACE
from tests.support.lab_rows import output

# Rows whose first version takes seconds; smaller ones of the same kind are checked.
SLOW_ROWS = ("10,000 characters", "first 10 merges", "(32, 256", "instead of list.index")
# These two run whole models for long enough to matter.
LONG = ("dtype", "screen")


def shared(before: object, after: object) -> bool:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return np.shares_memory(before, after)
    return False


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
    # Beside its clock, the experiment of K-quants asks how near each of two ways is to float32.
    small = replace(packed_types.SHAPE, dim=256, hidden_dim=512, n_layers=2, n_heads=4, vocab_size=512)
    monkeypatch.setattr(packed_types, "SHAPE", small)
    file = {"dim": 256, "hidden_dim": 512, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 1024}
    monkeypatch.setattr(loading, "SHAPE", replace(loading.SHAPE, **file))
    monkeypatch.setattr(drafting, "REPLY", 24)
    monkeypatch.setattr(panels, "PANELS", 16)
    monkeypatch.setattr(
        attention, "SHAPE", replace(attention.SHAPE, n_layers=1, n_heads=8, n_kv_heads=2, max_seq_len=512)
    )
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
            continue
        assert case.why or case.name.startswith("control: "), f"{case.name} does not say why"
        if not any(slow in case.name for slow in SLOW_ROWS):
            before = output(case, "before")
            kept = copy.deepcopy(before)
            after = output(case, "after")
            assert not shared(before, after), f"{case.name}: one buffer cannot show a difference"
            np.testing.assert_equal(before, kept)
            match = case.check(before, after)
            assert match.ok, f"{case.name}: {match.text}"
    assert names


@pytest.mark.skipif(not all(host_features().get(f) for f in AVX2.needs), reason="this CPU has no AVX2")
def test_queries_lie_as_each_instruction_set_takes_them() -> None:
    """Without an instruction for pairs of bfloat16 they are float32, in another order."""
    assert not AVX2.pair_dots
    first = next(attention._kernels(AVX2))
    match = first.check(first.before(), first.after())
    assert match.ok, match.text


def test_a_deeper_model_that_computes_the_same(context: LabContext) -> None:
    """What guesses for it is then always right."""
    small = models.default_checkpoint(context)
    assert small is not None
    deep = drafting.deepened(small, 3)
    assert deep.config.n_layers == 3 * small.config.n_layers
    ids = models.token_ids(20, small.config.vocab_size)
    logits = []
    for checkpoint in (small, deep):
        model = models.numpy_model(context, checkpoint)
        logits.append(model.forward(ids, model.new_cache(20), logits="all").copy())
    np.testing.assert_array_equal(*logits)


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


def test_the_first_merges_are_those_of_the_whole_text() -> None:
    text = texts.text_of(40).replace(" ", SPACE)
    for merges in (0, 3, 10**6):
        by_list, by_dict = (
            made(texts.vocabulary()).encode(text, merges)
            for made in (texts.list_tokenizer, texts.dict_tokenizer)
        )
        assert by_list == by_dict
        assert len(by_dict) == max(
            len(text) - merges, len(texts.dict_tokenizer(texts.vocabulary()).encode(text))
        )


def test_only_rows_that_say_so_read_words_seen_before(context: LabContext) -> None:
    """On the very same text again a cache turns encoding into one lookup a word."""
    engine = texts.engine_tokenizer(cached=False)
    assert engine.encode(texts.text_of(94)) == texts.engine_tokenizer().encode(texts.text_of(94))
    assert not engine._cache
    for case in (*tokenizer.cases(context), *together.cases(context)):
        if isinstance(case, Case) and "characters" in case.name:
            bound = getattr(case.after, "func", None)
            encoder = getattr(bound, "__self__", None)
            pieces = getattr(encoder, "_cache", None)
            cached = pieces is not None and pieces.longest > 0
            assert cached == ("words seen before" in case.name)
            assert not (cached and case.headline)
            if pieces is not None and not cached:
                case.after()
                assert not pieces


def test_the_default_models_tokenizer_keeps_its_own_cache(context: LabContext) -> None:
    checkpoint = models.default_checkpoint(context)
    assert checkpoint is not None
    own = checkpoint.tokenizer
    before = own.encode("once upon a time")
    bare = texts.uncached(own)
    assert bare.encode("once upon a time") == before
    assert own._cache  # type: ignore[attr-defined]
    assert not bare._cache  # type: ignore[attr-defined]
