"""DRY against a computation of its own in float64, token by token as its description has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llama_core.sampling.dry import dry_penalties, find_breakers
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampler
from tests.support.luck import SEED
from tests.support.word_tokenizer import WordTokenizer


def slow_penalties(ids: list[int], params: SamplingParams, breakers: dict[int, Any]) -> dict[int, float]:
    """For each token the longest run before one of its earlier places that is also how the text ends."""
    last_n = params.dry_penalty_last_n
    window = ids if last_n < 0 else ids[-last_n:] if last_n else []
    limit = len(window)
    for i in range(len(window)):  # the nearest breaker behind which repeats begin
        at = len(window) - 1 - i
        fits = [t for t in breakers.get(window[at], ()) if tuple(window[at + 1 : at + 1 + len(t)]) == t]
        if fits:
            limit = i - max(map(len, fits))
            break
    found: dict[int, int] = {}
    for place in range(1, len(window)):
        n = 0
        while n < min(place, limit) and window[place - 1 - n] == window[-1 - n]:
            n += 1
        if n >= params.dry_allowed_length and len(window) > params.dry_allowed_length:
            found[window[place]] = max(found.get(window[place], 0), n)
    largest = math.inf
    if params.dry_base > 1.000001:
        largest = math.log(float(np.finfo(np.float32).max)) / math.log(params.dry_base)
    return {
        token: params.dry_multiplier * params.dry_base ** min(n - params.dry_allowed_length, largest)
        for token, n in found.items()
    }


@pytest.mark.parametrize("base", [1.0, 1.75, 4.0])
@pytest.mark.parametrize("last_n", [-1, 0, 7, 40])
@pytest.mark.parametrize("allowed", [1, 2, 4])
def test_penalties_are_those_of_the_description(base: float, last_n: int, allowed: int) -> None:
    rng = np.random.default_rng(SEED)
    params = SamplingParams(
        dry_multiplier=0.8, dry_base=base, dry_penalty_last_n=last_n, dry_allowed_length=allowed
    )
    breakers = {3: ((),), 2: ((1,), (1, 0))}
    penalised = 0
    for _ in range(60):
        motif = rng.integers(0, 4 + rng.integers(6), rng.integers(2, 12))
        noisy = np.where(rng.random(60) < 0.1, rng.integers(0, 4, 60), np.resize(motif, 60))
        ids = noisy[: rng.integers(0, 61)].tolist()
        seen, lost = dry_penalties(ids, params, breakers)
        expected = slow_penalties(ids, params, breakers)
        assert dict(zip(seen.tolist(), lost.tolist(), strict=True)) == pytest.approx(expected)
        penalised += len(expected)
    assert (penalised > 0) == (last_n != 0)


def test_an_endless_repeat_is_bounded_as_float32_is() -> None:
    ids = [5, 6] * 2000
    params = SamplingParams(dry_multiplier=1.0, dry_base=1.75)
    seen, lost = dry_penalties(ids, params, {})
    assert seen.tolist() == [5]
    assert lost[0] == pytest.approx(float(np.finfo(np.float32).max), rel=1e-5)
    sampler = Sampler(SamplingParams(temperature=0.0, dry_multiplier=100.0), 8)
    logits = np.array([0, 0, 0, 0, 0, 9, 1, 0], np.float32)
    assert sampler.draw(logits, ids, np.random.default_rng(0)).id == 6


def test_breakers_are_tokens_that_hold_one_or_end_with_its_beginning() -> None:
    tokenizer: Any = WordTokenizer(["a", "\n", "x\n\ny", "b#", "##", "# ", "#"])
    found = find_breakers(("\n", "###"), tokenizer)
    encoded = {text: tuple(tokenizer.encode(text)) for text in ("#", "##")}
    assert found[1] == ((),)
    assert found[2] == ((),)
    assert found[3] == (encoded["##"],)
    assert set(found[4]) == {encoded["#"], encoded["##"]}
    assert 0 not in found
    assert 5 not in found


def test_what_a_breaker_parts_is_no_repeat() -> None:
    logits = np.array([0.0, 0.0, 5.0, 4.0], np.float32)
    text = [0, 1, 2, 3, 0, 1]
    params = SamplingParams(temperature=0.0, dry_multiplier=2.0)
    assert Sampler(params, 4).draw(logits, text, np.random.default_rng(0)).id == 3
    parted = Sampler(params, 4, {1: ((),)})
    assert parted.draw(logits, text, np.random.default_rng(0)).id == 2
