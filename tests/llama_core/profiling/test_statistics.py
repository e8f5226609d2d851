"""The interval of a ratio against worked examples and its own promise of coverage."""

from __future__ import annotations

import math
import random

import pytest

from llama_core.profiling.statistics import ratio_interval, spread, student_t95


def test_known_log_ratios_give_the_textbook_interval() -> None:
    # log-ratios 0, 1, 2: mean 1, standard deviation 1, t(2) = 4.303, half width 4.303 / sqrt(3).
    interval = ratio_interval([1.0, math.e, math.e**2], [1.0, 1.0, 1.0])
    half = 4.303 / math.sqrt(3)
    assert math.log(interval.value) == pytest.approx(1.0)
    assert math.log(interval.low) == pytest.approx(1.0 - half)
    assert math.log(interval.high) == pytest.approx(1.0 + half)


def test_a_steady_ratio_has_a_narrow_interval_though_the_machine_drifts() -> None:
    load = [1.0, 3.0, 2.0, 8.0, 5.0]
    interval = ratio_interval([2.0 * x for x in load], load)
    assert (interval.low, interval.high) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.parametrize(
    ("degrees", "exact"), [(1, 12.7062), (9, 2.2622), (30, 2.0423), (40, 2.0211), (120, 1.9799)]
)
def test_student_t_matches_the_tables(degrees: int, exact: float) -> None:
    assert student_t95(degrees) == pytest.approx(exact, abs=5e-4)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(20)
    covered = 0
    for _ in range(2000):
        before = [1.5 * rng.lognormvariate(0.0, 0.2) for _ in range(8)]
        after = [rng.lognormvariate(0.0, 0.2) for _ in range(8)]
        interval = ratio_interval(before, after)
        covered += interval.low <= 1.5 <= interval.high
    assert 0.935 <= covered / 2000 <= 0.965


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
