"""Sampling: the filters by their definitions, the distributions by counting, and one seed one reply."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_core.errors import NumericalError
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampler, log_sum_exp, seeded, top_ids

DRAWS = 1_000
NEUTRAL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def logits_of(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


class EvenlySpread:
    """In a generator's place: DRAWS numbers at equal distances, so that counts are right but for one."""

    def __init__(self) -> None:
        self.given = 0

    def random(self) -> float:
        self.given += 1
        return (self.given - 0.5) / DRAWS


def counts(logits: np.ndarray, ids: tuple[int, ...] = (), *, prompt_n: int = 0, **params: Any) -> np.ndarray:
    """How often each id is drawn."""
    sampler = Sampler(SamplingParams(**{**NEUTRAL, **params}), len(logits))
    spread: Any = EvenlySpread()
    drawn = [sampler.draw(logits, ids, spread, prompt_n=prompt_n).id for _ in range(DRAWS)]
    assert spread.given in (0, DRAWS)  # none where the token is known without
    return np.bincount(drawn, minlength=len(logits))


def assert_distribution(found: np.ndarray, expected: np.ndarray) -> None:
    """Each id as often as its probability says, to the two ends of its part of the numbers."""
    wanted = expected / expected.sum() * DRAWS
    assert not found[wanted == 0].any()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2)


LOGITS = logits_of(2.0, 0.5, 1.5, -1.0, 0.0, 1.0)
P = np.exp(LOGITS.astype(float))
P /= P.sum()
ORDER = np.argsort(-P)


def test_temperature_one_without_filters_is_the_models_own_distribution() -> None:
    assert_distribution(counts(LOGITS), P)


def test_by_a_real_generator_too() -> None:
    """A chi-square bound that a right sampler passes but for one seed in a million."""
    sampler, rng, n = Sampler(SamplingParams(**NEUTRAL), len(LOGITS)), np.random.default_rng(11), 8_000
    found = np.bincount([sampler.draw(LOGITS, (), rng).id for _ in range(n)], minlength=len(LOGITS))
    statistic = ((found - P * n) ** 2 / (P * n)).sum()
    freedom = len(LOGITS) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 20


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature(temperature: float) -> None:
    assert_distribution(counts(LOGITS, temperature=temperature), P ** (1 / temperature))


@pytest.mark.parametrize("k", [1, 2, 5, 6, 100])
def test_top_k(k: int) -> None:
    expected = P.copy()
    expected[ORDER[k:]] = 0
    assert_distribution(counts(LOGITS, top_k=k), expected)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.75, 0.95, 0.999999])
@pytest.mark.parametrize("k", [0, 3])
def test_top_p_is_the_smallest_set_with_the_mass(p: float, k: int) -> None:
    expected = P.copy()
    if k:
        expected[ORDER[k:]] = 0
    cumulative = np.cumsum(expected[ORDER]) / expected.sum()
    expected[ORDER[int((cumulative < p).sum()) + 1 :]] = 0
    assert_distribution(counts(LOGITS, top_p=p, top_k=k), expected)


@pytest.mark.parametrize("min_p", [0.1, 0.3, 1.0])
def test_min_p(min_p: float) -> None:
    assert_distribution(counts(LOGITS, min_p=min_p), np.where(min_p * P.max() * 0.999 <= P, P, 0))


@pytest.mark.parametrize("last_n", [-1, 0, 2, 64])
def test_the_penalty_divides_what_is_positive_and_multiplies_what_is_not(last_n: int) -> None:
    ids = (3, 0, 1, 1)
    window = {-1: {0, 1, 3}, 0: set(), 2: {1}, 64: {0, 1, 3}}[last_n]
    changed = LOGITS.astype(float)
    for i in window:
        changed[i] = changed[i] / 1.5 if changed[i] > 0 else changed[i] * 1.5
    found = counts(LOGITS, ids, repeat_penalty=1.5, repeat_last_n=last_n)
    assert_distribution(found, np.exp(changed))


@pytest.mark.parametrize("k", [0, 1, 3])
def test_top_p_zero_is_the_likeliest_token(k: int) -> None:
    assert counts(LOGITS, top_p=0.0, top_k=k)[0] == DRAWS


@pytest.mark.parametrize(("presence", "frequency"), [(1.5, 0.0), (0.0, 0.5), (-1.0, 0.25), (2.0, -2.0)])
def test_presence_and_frequency_penalties_count_what_the_reply_said(
    presence: float, frequency: float
) -> None:
    """By OpenAI's formula: logit - times * frequency - (times > 0) * presence."""
    prompt, reply = (1, 1, 5), (0, 2, 2, 2, 4)
    times = np.bincount(reply, minlength=len(LOGITS))
    expected = np.exp(LOGITS - times * frequency - (times > 0) * presence)
    penalties = {"presence_penalty": presence, "frequency_penalty": frequency}
    assert_distribution(counts(LOGITS, (*prompt, *reply), prompt_n=len(prompt), **penalties), expected)
    # Before the first token of the reply nothing was said.
    sampler = Sampler(SamplingParams(**NEUTRAL, **penalties), len(LOGITS))
    first = sampler.draw(LOGITS, prompt, np.random.default_rng(1), prompt_n=len(prompt))
    plain = Sampler(SamplingParams(**NEUTRAL), len(LOGITS))
    assert first == plain.draw(LOGITS, prompt, np.random.default_rng(1))


@pytest.mark.parametrize("mass", [0.0, 0.2, 0.5, 0.9, 0.999999])
@pytest.mark.parametrize("k", [0, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_typical_p_keeps_what_is_about_as_surprising_as_expected(mass: float, k: int, top_p: float) -> None:
    """By the paper's definition, in float64: |-log p - H|, least first, until the mass is reached."""
    kept = P.copy()
    if k:
        kept[ORDER[k:]] = 0
    kept /= kept.sum()
    left = np.flatnonzero(kept)
    entropy = -(kept[left] * np.log(kept[left])).sum()
    by_distance = left[np.argsort(np.abs(-np.log(kept[left]) - entropy), kind="stable")]
    n = int((np.cumsum(kept[by_distance]) < mass).sum()) + 1
    kept[np.setdiff1d(np.arange(len(kept)), by_distance[:n])] = 0
    by_size = np.argsort(-kept, kind="stable")
    n = int((np.cumsum(kept[by_size]) / kept.sum() < top_p).sum()) + 1
    kept[by_size[n:]] = 0
    assert_distribution(counts(LOGITS, typical_p=mass, top_k=k, top_p=top_p), kept)


def test_a_logit_bias_is_added_first() -> None:
    bias = ((0, -100.0), (3, 4.5), (1, 0.5), (99, 3.0))  # an id beyond the model's means nothing
    expected = LOGITS.astype(float)
    expected[[0, 3, 1]] += (-100.0, 4.5, 0.5)
    found = counts(LOGITS, logit_bias=bias)
    assert found[0] == 0
    assert_distribution(found[1:], np.exp(expected)[1:])
    both = counts(LOGITS, (3,), logit_bias=bias, repeat_penalty=2.0)
    expected[3] /= 2.0
    assert_distribution(both[1:], np.exp(expected)[1:])


@pytest.mark.parametrize("params", [{}, {"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.5}, {"typical_p": 0.5}])
def test_under_a_mask_the_filters_see_only_what_is_allowed(params: dict[str, Any]) -> None:
    allowed = np.array([False, True, False, True, True, False])
    sampler = Sampler(SamplingParams(**{**NEUTRAL, **params}), 6)
    rng = np.random.default_rng(5)
    drawn = [sampler.draw(LOGITS, (), rng, allowed=allowed) for _ in range(2000)]
    alone = Sampler(SamplingParams(**{**NEUTRAL, **params}), 3)
    rng = np.random.default_rng(5)
    expected = [alone.draw(LOGITS[allowed], (), rng).id for _ in range(2000)]
    assert [one.id for one in drawn] == np.flatnonzero(allowed)[expected].tolist()
    # Their log-probabilities stay the model's own.
    assert drawn[0].logprob == pytest.approx(math.log(P[drawn[0].id]), abs=1e-6)
    assert sampler.draw(LOGITS, (), rng, allowed=np.arange(6) == 3).id == 3


def test_both_kinds_of_penalty_together() -> None:
    sampler = Sampler(
        SamplingParams(
            temperature=0.0, repeat_penalty=2.0, repeat_last_n=-1, presence_penalty=1.0, frequency_penalty=0.5
        ),
        4,
    )
    logits = logits_of(4.0, 3.0, 1.9, 1.0)
    # 4 / 2 - 1 - 0.5 = 0.5 and 3 / 2 = 1.5 (said in the prompt alone) leave 1.9 as the largest.
    assert sampler.draw(logits, [1, 0], np.random.default_rng(0), prompt_n=1).id == 2


@pytest.mark.parametrize("seed", [-1, -(1 << 63), 0, (1 << 63) - 1, (1 << 64) - 1])
def test_every_seed_of_64_bits_is_one(seed: int) -> None:
    assert SamplingParams(seed=seed).seed == seed
    assert seeded(seed).random() == seeded(seed).random()
    assert seeded(seed).random() != seeded(seed ^ 1).random()
    assert seeded(seed).random() == np.random.default_rng(seed % 2**64).random()


def test_all_filters_together() -> None:
    found = counts(LOGITS, temperature=0.8, top_k=4, top_p=0.9, min_p=0.2)
    kept = P.copy()
    kept[ORDER[4:]] = 0
    kept[ORDER[int((np.cumsum(kept[ORDER]) / kept.sum() < 0.9).sum()) + 1 :]] = 0
    kept[kept < 0.2 * P.max()] = 0
    assert_distribution(found, kept ** (1 / 0.8))


def test_greedy_takes_the_first_of_equals_and_no_number() -> None:
    sampler = Sampler(SamplingParams(temperature=0.0, top_k=1, top_p=0.1), 4)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert sampler.draw(logits_of(1.0, 3.0, 3.0, 2.0), [], rng).id == 1
    assert rng.bit_generator.state == state


def test_greedy_hears_the_penalty() -> None:
    sampler = Sampler(SamplingParams(temperature=0.0, repeat_penalty=2.0), 3)
    assert sampler.draw(logits_of(3.0, 2.0, 0.0), [0], np.random.default_rng(0)).id == 1


def test_a_tiny_temperature_is_greedy_and_a_huge_one_uniform() -> None:
    assert counts(LOGITS, temperature=1e-9)[0] == DRAWS
    assert_distribution(counts(LOGITS, temperature=100.0), np.ones(6) + (LOGITS / 100.0))


def test_one_seed_one_reply_and_the_logits_stay() -> None:
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((50, 49_152)) * 4).astype(np.float32)
    given = logits.copy()

    def reply(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(repeat_penalty=1.1), 49_152)
        numbers = np.random.default_rng(seed)
        ids: list[int] = []
        for row in logits:
            ids.append(sampler.draw(row, ids, numbers).id)
        return ids

    assert reply(7) == reply(7)
    assert reply(7) != reply(8)
    np.testing.assert_array_equal(logits, given)


def test_the_log_probability_is_the_models_own() -> None:
    params = SamplingParams(temperature=0.3, top_k=2, repeat_penalty=1.7)
    sampled = Sampler(params, 6).draw(LOGITS, [0, 1, 2], np.random.default_rng(2))
    assert sampled.logprob == pytest.approx(math.log(P[sampled.id]), abs=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("place", [0, 3, 5])
def test_what_is_not_finite_is_an_error(bad: float, temperature: float, place: int) -> None:
    logits = LOGITS.copy()
    logits[place] = bad
    with pytest.raises(NumericalError, match="NaN or infinity"):
        Sampler(SamplingParams(temperature=temperature), 6).draw(logits, [], np.random.default_rng(0))


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
LARGEST = float(np.finfo(np.float32).max)
TINY = [5e-324, 1e-300, 1e-45, 1e-38]


@settings(max_examples=400, deadline=None)
@given(
    logits=st.lists(
        st.sampled_from([-LARGEST, LARGEST, 0.0, -0.0, 1e-45, 1.0]) | FINITE, min_size=1, max_size=9
    ),
    seen=st.lists(st.integers(0, 8), max_size=4),
    temperature=st.sampled_from([0.0, *TINY, 1.0, 100.0]) | st.floats(0.0, 100.0),
    top_k=st.sampled_from([0, 1, 10**30]),
    top_p=st.sampled_from([0.0, *TINY, 1.0]) | st.floats(0.0, 1.0),
    min_p=st.sampled_from([0.0, *TINY, 1.0]) | st.floats(0.0, 1.0),
    repeat_penalty=st.sampled_from([0.01, 1.0, 100.0]) | st.floats(0.01, 100.0),
    repeat_last_n=st.sampled_from([-1, 0, 1, 10**30]),
)
@example(
    logits=[1.0, 0.0],
    seen=[],
    temperature=5e-324,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repeat_penalty=1.0,
    repeat_last_n=-1,
)
def test_no_accepted_parameter_and_no_finite_logit_leads_out_of_the_numbers(
    logits: list[float], seen: list[int], **params: Any
) -> None:
    """No warning, and a token that is the likeliest one where it must be."""
    row = logits_of(*logits)
    ids = [i for i in seen if i < len(row)]
    made = SamplingParams(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampled = Sampler(made, len(row)).draw(row, ids, np.random.default_rng(0))
    window = ids if made.repeat_last_n < 0 else ids[max(0, len(ids) - made.repeat_last_n) :]
    p = made.repeat_penalty
    exact = [
        (float(v) / p if v > 0 else float(v) * p) if i in window else float(v) for i, v in enumerate(row)
    ]
    assert 0 <= sampled.id < len(row)
    assert sampled.logprob <= 1e-3
    if made.temperature == 0.0 or made.top_k == 1 or made.min_p == 1.0:
        nearest = np.clip(exact, -LARGEST, LARGEST)
        assert np.isclose(nearest[sampled.id], nearest.max(), rtol=1e-6, atol=1e-44)


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from([1, 7, 64, 4095, 4096, 5000, 49_152]),
    n=st.sampled_from([1, 2, 40, 256, 257, 1000, 60_000]),
    distinct=st.sampled_from([1, 2, 50, 1_000_000]),
    seed=st.integers(0, 1000),
)
def test_top_ids_equals_a_full_sort(size: int, n: int, distinct: int, seed: int) -> None:
    """With many ties too: of equal logits the lower id comes first."""
    logits = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    expected = np.lexsort((np.arange(size), -logits))[:n]
    np.testing.assert_array_equal(top_ids(logits, n), expected)


def test_a_flat_distribution_without_top_k_is_cut_by_top_p_alone() -> None:
    """The nucleus is larger than the first look at the likeliest."""
    logits = np.zeros(20_000, np.float32)
    sampler = Sampler(SamplingParams(temperature=1.0, top_k=0, top_p=0.5), 20_000)
    rng = np.random.default_rng(3)
    drawn = [sampler.draw(logits, [], rng).id for _ in range(400)]
    assert max(drawn) <= 10_000
    assert max(drawn) > 9_000


def test_alternatives_are_likeliest_first() -> None:
    top = Sampler(SamplingParams(), 6).top(LOGITS, 3)
    assert [i for i, _ in top] == ORDER[:3].tolist()
    np.testing.assert_allclose([p for _, p in top], np.log(P[ORDER[:3]]), atol=1e-6)
    assert Sampler(SamplingParams(), 6).top(LOGITS, 0) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"repeat_penalty": 0.0},
        {"repeat_penalty": 1e-300},
        {"repeat_penalty": math.inf},
        {"repeat_last_n": -2},
        {"seed": -(1 << 63) - 1},
        {"seed": 1 << 64},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"frequency_penalty": math.nan},
        {"max_tokens": -1},
        {"stop": ("",)},
    ],
)
def test_wrong_parameters_are_refused_with_a_sentence(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*, expected"):
        SamplingParams(**wrong)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e38])
def test_log_sum_exp(scale: float) -> None:
    drawn = np.random.default_rng(50).standard_normal(50).astype(np.float32)
    logits = np.clip(drawn, -2, 2) * np.float32(scale)
    scratch = np.empty(50, np.float32)
    wide = logits.astype(np.float64)
    expected = wide.max() + np.log(np.exp(wide - wide.max()).sum())
    with np.errstate(over="ignore"):
        assert log_sum_exp(logits, scratch) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_log_sum_exp_shows_what_is_not_finite(bad: float) -> None:
    logits = np.random.default_rng(10).standard_normal(10).astype(np.float32)
    logits[4] = bad
    assert not np.isfinite(log_sum_exp(logits, np.empty(10, np.float32)))


@pytest.mark.parametrize(
    ("params", "cut"),
    [
        ({}, ["", "", "", "", "", ""]),
        ({"top_k": 4}, ["", "", "", "top_k", "top_k", ""]),
        ({"top_k": 4, "top_p": 0.7}, ["", "top_p", "", "top_k", "top_k", "top_p"]),
        ({"top_p": 0.8}, ["", "top_p", "", "top_p", "top_p", ""]),
        ({"min_p": 0.3}, ["", "min_p", "", "min_p", "min_p", ""]),
        ({"temperature": 0.0, "top_k": 4}, ["", *["temperature"] * 5]),
        ({"typical_p": 0.4, "top_k": 5}, ["typical_p", "typical_p", "", "top_k", "typical_p", ""]),
    ],
)
def test_why_a_token_cannot_be_drawn(params: dict[str, Any], cut: list[str]) -> None:
    """What is named is what keeps it away: without a name it is drawn now and then, else never."""
    sampler = Sampler(SamplingParams(**{**NEUTRAL, **params}), len(LOGITS))
    found = sampler.cut_by(LOGITS, (), range(len(LOGITS)))
    assert list(found) == cut
    rng = np.random.default_rng(5)
    drawn = {sampler.draw(LOGITS, (), rng).id for _ in range(500)}
    assert drawn == {one for one, reason in enumerate(found) if not reason}


def test_a_mask_keeps_away_before_any_filter() -> None:
    sampler = Sampler(SamplingParams(**{**NEUTRAL, "top_k": 2}), len(LOGITS))
    allowed = np.array([False, True, True, True, True, True])
    found = sampler.cut_by(LOGITS, (), range(len(LOGITS)), allowed=allowed)
    assert list(found) == ["mask", "top_k", "", "top_k", "top_k", ""]


def test_what_a_penalty_makes_unlikely_is_cut_by_the_filter() -> None:
    sampler = Sampler(SamplingParams(**{**NEUTRAL, "top_k": 1, "repeat_penalty": 10.0}), len(LOGITS))
    assert sampler.cut_by(LOGITS, (0,), (0, 2)) == ("top_k", "")
