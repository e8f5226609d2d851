"""The interval of a ratio against worked examples and its own promise of coverage."""

from __future__ import annotations

import math
import random

import pytest

from llama_core.profiling.statistics import ratio_interval, spread


def test_few_pairs_give_the_textbook_interval() -> None:
    # log-ratios 0, 1, 2: mean 1, standard deviation 1, t(2) = 4.303, half width 4.303 / sqrt(3).
    interval = ratio_interval([1.0, math.e, math.e**2], [1.0, 1.0, 1.0])
    half = 4.303 / math.sqrt(3)
    assert math.log(interval.value) == pytest.approx(1.0)
    assert math.log(interval.low) == pytest.approx(1.0 - half)
    assert math.log(interval.high) == pytest.approx(1.0 + half)


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (40, 14)])
def test_many_pairs_give_the_ranks_of_the_sign_tests_tables(n: int, rank: int) -> None:
    ratios = [1.0 + i / 100 for i in range(n)]
    random.Random(1).shuffle(ratios)
    interval = ratio_interval(ratios, [1.0] * n)
    assert (interval.low, interval.high) == (1.0 + (rank - 1) / 100, 1.0 + (n - rank) / 100)
    assert interval.value == pytest.approx(1.0 + (n - 1) / 200)


def test_a_pair_that_was_disturbed_moves_nothing() -> None:
    """As the median of the times does not move either."""
    after = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]
    before = [2.0 * t for t in after]
    before[3] = 60.0
    interval = ratio_interval(before, after)
    assert (interval.value, interval.low, interval.high) == (2.0, pytest.approx(2.0), pytest.approx(2.0))


def test_a_steady_ratio_has_a_narrow_interval_though_the_machine_drifts() -> None:
    load = [1.0, 3.0, 2.0, 8.0, 5.0]
    interval = ratio_interval([2.0 * x for x in load], load)
    assert (interval.low, interval.high) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.parametrize(("n", "coverage"), [(4, 0.95), (6, 0.969), (9, 0.961), (20, 0.959)])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int, coverage: float) -> None:
    rng = random.Random(20)
    covered = 0
    for _ in range(2000):
        before = [1.5 * rng.lognormvariate(0.0, 0.2) for _ in range(n)]
        after = [rng.lognormvariate(0.0, 0.2) for _ in range(n)]
        interval = ratio_interval(before, after)
        covered += interval.low <= 1.5 <= interval.high
    assert covered / 2000 == pytest.approx(coverage, abs=0.015)


@pytest.mark.parametrize(
    ("before", "after"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, math.nan], [1.0, 1.0])],
)
def test_useless_runs_are_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs|runs|times"):
        ratio_interval(before, after)


def test_spread_names_median_and_extremes() -> None:
    result = spread([3.0, 1.0, 10.0])
    assert (result.median, result.least, result.greatest, result.n) == (3.0, 1.0, 10.0, 3)
    with pytest.raises(ValueError, match="no runs"):
        spread([])
