"""Every experiment compares two ways to the same output: checked here without a clock, on a toy model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chat_app.commands import lab as commands_lab
from llama_core.profiling.experiment import Case, Experiment, LabContext, NotMeasured, Row, Timed
from llama_core.profiling.experiments import batching, compiled, memory, products, scaling, tokenizer
from llama_core.profiling.statistics import Interval, Spread

# Rows whose first version takes seconds; smaller ones of the same kind are checked.
SLOW_ROWS = ("10,000 characters", "(32, 256", "duplicates")


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


def test_a_decode_step_that_differs_from_the_prompt_is_seen(context: LabContext) -> None:
    """The check computes with the same model, whose logits are one buffer: it must not see itself."""
    step = next(case for case in scaling.cases(context) if isinstance(case, Case) and "decode" in case.name)
    good = np.asarray(output(step, "after"))
    assert step.check(None, good).ok
    assert not step.check(None, good + np.float32(1)).ok
    wrong = step.after
    wrong.token = wrong.token + 1  # type: ignore[attr-defined]
    assert not step.check(None, output(step, "after")).ok


def test_break_even_counts_the_calls_of_a_token(context: LabContext) -> None:
    rows = [
        row("norm, 1 row: x", 12e-6, 2e-6, note="compiled in 0.61 s, needed 61 times a token"),
        row("SiLU, 1 row: x", 2e-6, 4e-6, note="compiled in 0.50 s, needed 30 times a token"),
        row("norm, 64 rows: x", 12e-6, 2e-6, note="compiled in 0.61 s, needed 61 times a token"),
    ]
    assert compiled.conclude(context, rows) == [
        "norm: compiled in 0.61 s, paid back after 1,000 tokens",
        "SiLU: compiled in 0.50 s, never paid back",
    ]


def test_the_batch_model_finds_the_costs_it_was_made_of(context: LabContext) -> None:
    rows = [row(f"numpy, batch {n}", 1.0, 0.010 + 0.002 * n, work=n) for n in (1, 2, 4, 8, 16)]
    (sentence,) = batching.conclude(context, rows)
    assert "10.0 ms and 2.00 ms for each sequence" in sentence
    assert "381 tok/s at batch 16" in sentence


def test_the_scaling_fits_find_the_costs_they_were_made_of(context: LabContext) -> None:
    lengths = (64, 256, 1024, 2048)
    rows = [
        row(f"numpy, decode at {n:,} instead of 16 tokens of context", 1.0, 0.016 + 2e-6 * n) for n in lengths
    ]
    rows += [row(f"numpy, prefill of {n:,}: chunks", 1.0, n * (1e-3 + 1e-7 * n), work=n) for n in lengths]
    _, decode, prefill = scaling.conclude(context, rows)
    assert "16.00 ms + 2.00 us a position (within 0%)" in decode
    assert "1000 us a token + 100.0 ns for each token" in prefill


def test_the_growth_of_list_index_is_told(context: LabContext) -> None:
    rows = [row("94 characters: dict instead of list.index", 0.6, 1e-3, 94)]
    rows.append(row("11 characters: dict instead of list.index", 0.01, 1e-3, 11))
    (sentence,) = tokenizer.conclude(context, rows)
    assert "8.5 times the text took 60 times as long" in sentence
    assert "would take 113 minutes" in sentence
