"""The runner on made-up experiments: it finds what is faster and refuses what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from llama_core.errors import LlamaCoreError
from llama_core.profiling.lab import report, runner
from llama_core.profiling.lab.experiment import (
    FASTER,
    SAME,
    Case,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Timed,
    arrays_match,
    same,
)
from llama_core.profiling.lab.runner import measure, run_experiment
from llama_core.profiling.statistics import Interval

AGREE = Match(True, "identical")


RESULT = [7, 8, 9]


# By clocks of their own: what else the machine does decides no verdict here.
def slow() -> Timed:
    return Timed(RESULT, 0.01)


def quick() -> Timed:
    return Timed(RESULT, 0.001)


def experiment(*cases: Case | NotMeasured) -> Experiment:
    def give(context: LabContext) -> Iterator[Case | NotMeasured]:
        yield from cases

    return Experiment(
        99, "fake", "A fake", "Quick | slow", "it is slower", give, lambda c, rows: [f"{len(rows)} rows"]
    )


def test_a_tenfold_saving_is_confirmed() -> None:
    row = measure(Case("a", slow, quick, check=same), 0.05)
    assert row.verdict == "confirmed"
    assert row.ratio == Interval(10.0, 10.0, 10.0)
    assert row.match == Match(True, "identical (3 items)")
    assert row.before_s is not None
    assert row.before_s.n >= 3


def test_a_loss_is_refuted() -> None:
    assert measure(Case("a", quick, slow, check=same), 0.05).verdict == "refuted"


def test_a_tenfold_saving_with_other_results_is_refuted() -> None:
    row = measure(Case("a", slow, lambda: Timed([*RESULT, 1], 0.001), check=same), 0.05)
    assert row.verdict == "refuted"
    assert row.match == Match(False, "different")
    assert report.outputs(row) == "DIFFER: different"


def test_a_side_without_a_clock_is_timed_by_the_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only the work itself moves on."""
    now = [0.0]
    monkeypatch.setattr(runner.time, "perf_counter", lambda: now[0])

    def works(seconds: float) -> Callable[[], list[int]]:
        def run() -> list[int]:
            now[0] += seconds
            return RESULT

        return run

    # The quicker one is repeated within a sample, and so is one with a preparation.
    for prepare in (None, lambda: None):
        row = measure(Case("a", works(0.5), works(0.0005), check=same, prepare=prepare), 0.05)
        assert row.ratio is not None
        assert row.ratio.low == pytest.approx(1000)
        assert row.ratio.high == pytest.approx(1000)
        assert row.after_s is not None
        assert row.after_s.median == pytest.approx(0.0005)


def test_before_and_after_take_turns_with_preparation_before_each() -> None:
    calls: list[str] = []
    case = Case(
        "a",
        before=lambda: calls.append("b"),
        after=lambda: calls.append("a"),
        prepare=lambda: calls.append("p"),
        check=lambda b, a: AGREE,
    )
    measure(case, 0.0)
    assert calls[0::2] == ["p"] * (len(calls) // 2)
    sides = "".join(calls[1::2])
    assert sides.startswith("ba")  # outputs
    # One side may be repeated more often in a sample than the other, but each always as often as before:
    # b, then a twice, b twice, ..., since the order changes from round to round.
    turns = [(side, len(list(run))) for side, run in groupby(sides[4:])]
    assert len(turns) > 3
    assert [side for side, _ in turns[:4]] == ["b", "a", "b", "a"]
    lengths = {side: {n for other, n in turns[1:-1] if other == side} for side in "ab"}
    assert len(lengths["a"]) == 1
    assert lengths["b"] == {2 * turns[0][1]}


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        (FASTER, 1.01, 1.2, "confirmed"),
        (FASTER, 0.9, 0.99, "refuted"),
        (FASTER, 0.9, 1.1, "open"),
        (Claim(2.0), 1.5, 1.9, "refuted"),
        (SAME, 0.96, 1.04, "confirmed"),
        (SAME, 1.06, 1.2, "refuted"),
        (SAME, 1.0, 1.2, "open"),
    ],
)
def test_a_claim_needs_the_whole_interval(claim: Claim, low: float, high: float, verdict: str) -> None:
    assert claim.judge(Interval((low + high) / 2, low, high), AGREE) == verdict
    assert claim.judge(Interval((low + high) / 2, low, high), Match(False, "off")) == "refuted"


def test_a_side_may_be_timed_by_its_own_clock() -> None:
    case = Case("a", lambda: Timed([1], 3.0), lambda: Timed([1], 1.5), check=same)
    row = measure(case, 0.0)
    assert row.ratio is not None
    assert row.ratio.value == pytest.approx(2.0)
    assert row.match == Match(True, "identical (1 items)")


def test_arrays_are_compared_relative_to_their_size() -> None:
    check = arrays_match(1e-4)
    assert check(np.ones(3), np.ones(3)).text == "identical"
    assert check(np.array([1000.0, 0.0]), np.array([1000.05, 0.0])).ok
    assert check(np.array([1.0, 0.0]), np.array([1.05, 0.0])) == Match(
        False, "apart by 5e-02 of the largest value"
    )
    assert not check(np.ones(3), np.ones(2)).ok
    assert check(np.ones(2), np.array([1.0, np.nan])) == Match(False, "not a number (NaN) in one of them")


def test_what_cannot_be_measured_is_a_row_and_stops_nothing() -> None:
    def fail() -> None:
        raise LlamaCoreError("no such model")

    seen: list[str] = []
    outcome = run_experiment(
        experiment(
            NotMeasured("gpu", "no device"), Case("broken", fail, fail), Case("b", slow, quick, check=same)
        ),
        LabContext(budget_s=0.02),
        lambda row: seen.append(row.name),
    )
    assert seen == ["gpu", "broken", "b"]
    assert [row.verdict for row in outcome.rows] == ["not measured", "not measured", "confirmed"]
    assert [row.note for row in outcome.rows[:2]] == ["no device", "no such model"]
    assert outcome.conclusions[0] == "3 rows"


def test_a_broken_case_keeps_the_rows_before_it() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    fine = Case("b", slow, quick, check=same)
    outcome = run_experiment(experiment(fine, Case("broken", fail, fail), fine), LabContext(budget_s=0.02))
    assert [row.name for row in outcome.rows] == ["b"]
    assert isinstance(outcome.broken_by, ZeroDivisionError)
    assert outcome.conclusions == ()


def test_ctrl_c_keeps_the_rows_before_it_and_lets_go_of_what_the_cases_hold() -> None:
    let_go = []

    def stop() -> None:
        raise KeyboardInterrupt

    def give(context: LabContext) -> Iterator[Case | NotMeasured]:
        try:
            yield Case("b", slow, quick, check=same)
            yield Case("stopped", stop, stop)
        finally:
            let_go.append(True)

    outcome = run_experiment(replace(experiment(), cases=give), LabContext(budget_s=0.02))
    assert [row.name for row in outcome.rows] == ["b"]
    assert isinstance(outcome.broken_by, KeyboardInterrupt)
    assert let_go == [True]
    assert outcome.conclusions == ()


def test_a_second_ctrl_c_cuts_the_tidying_short_and_loses_no_row() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def give(context: LabContext) -> Iterator[Case | NotMeasured]:
        try:
            yield NotMeasured("a", "no device")
            yield Case("stopped", stop, stop)
        finally:
            raise KeyboardInterrupt

    outcome = run_experiment(replace(experiment(), cases=give), LabContext(budget_s=0.02))
    assert [row.name for row in outcome.rows] == ["a"]
    assert isinstance(outcome.broken_by, KeyboardInterrupt)


def test_a_case_that_stays_open_when_stopped_may_fail_to_close() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def give(context: LabContext) -> Iterator[Case | NotMeasured]:
        try:
            yield Case("stopped", stop, stop)
        finally:
            raise RuntimeError("it does not end")

    outcome = run_experiment(replace(experiment(), cases=give), LabContext(budget_s=0.02))
    assert isinstance(outcome.broken_by, KeyboardInterrupt)  # what ended it, not what came after
