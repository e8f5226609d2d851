"""The decode rows: what a step is held against, what its bytes predict, and when its clock runs."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from llama_core.backends.base import Cache
from llama_core.profiling.lab.experiment import Case, LabContext, Timed, arrays_match
from llama_core.profiling.lab.experiments import limits, models, scaling
from llama_core.profiling.lab.runner import measure
from tests.support.lab_rows import output, row


def test_a_decode_step_that_differs_from_the_prompt_is_seen(context: LabContext) -> None:
    """The check computes with the same model, whose logits are one buffer: it must not see itself."""
    step = next(case for case in scaling.cases(context) if isinstance(case, Case) and "decode" in case.name)
    good = np.asarray(output(step, "after"))
    assert step.check(None, good).ok
    assert not step.check(None, good + np.float32(1)).ok
    wrong = step.after
    wrong.tokens = wrong.tokens + 1  # type: ignore[attr-defined]
    assert not step.check(None, output(step, "after")).ok


def test_a_decode_step_says_what_it_was_held_against_and_what_its_bytes_predict(context: LabContext) -> None:
    steps = [one for one in scaling.cases(context) if isinstance(one, Case) and ", decode at " in one.name]
    checkpoint = models.default_checkpoint(context)
    assert checkpoint is not None
    for step in steps:
        backend, n = step.name.split(",")[0], scaling._length(row(step.name, 1, 1))
        cost = limits.cost_of(backend, checkpoint)
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
    short = Timed(timed.output, 1e-5)
    measured = measure(replace(case, before=lambda: short, after=lambda: short, check=arrays_match()), 0.01)
    assert measured.after_s is not None
    assert measured.after_s.median == pytest.approx(1e-5)


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


def test_prompts_share_a_pass_on_both_backends(context: LabContext) -> None:
    names = {case.name for case in scaling.cases(context)}
    for backend in ("numpy", "jit"):
        assert f"{backend}, 4 prompts of 32 tokens in one pass instead of one after another" in names


def test_every_row_has_the_machines_limit_beside_it(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"bandwidth": 1e9, "peak numpy": 2e9, "peak jit": 4e9}
    for key, value in told.items():
        monkeypatch.setitem(context.cache, key, value)
    cases = [one for one in scaling.cases(context) if isinstance(one, Case)]
    assert all(case.limit_s > 0 for case in cases)
    checkpoint = models.default_checkpoint(context)
    assert checkpoint is not None
    decode = next(case for case in cases if case.name.startswith("jit, decode at 64 "))
    assert decode.limit_s == limits.cost_of("jit", checkpoint).bytes_at(64) / 1e9
    prefill = next(case for case in cases if case.name.startswith("numpy, prefill of 64:"))
    assert prefill.limit_s == 64 / limits.cost_of("numpy", checkpoint).prefill_ceiling(2e9)
