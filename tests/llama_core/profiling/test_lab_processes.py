"""Rows measured in fresh processes, the control that decides whether to judge, and the effect on a step."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.commands.lab import registry
from llama_core.profiling.lab import effects, runner
from llama_core.profiling.lab.effects import StepTimes, effect_of
from llama_core.profiling.lab.experiment import (
    Case,
    Claim,
    LabContext,
    Match,
    NotMeasured,
    Part,
    Timed,
    same,
)
from llama_core.profiling.lab.report import control, full_cells, reason
from llama_core.profiling.lab.runner import Samples, row_of, run_experiment
from llama_core.profiling.statistics import Interval, control_interval, envelope
from tests.support import fresh_rows

AGREE = Match(True, "identical")


def test_each_row_is_measured_in_fresh_processes() -> None:
    seen: list[str] = []
    outcome = run_experiment(
        fresh_rows.EXPERIMENT, LabContext(budget_s=0.01), lambda row: seen.append(row.name)
    )
    assert outcome.broken_by is None
    assert seen == ["one", "gpu", "broken", "part"]
    one, gpu, broken, part = outcome.rows
    assert one.processes == 3
    assert one.match is not None
    assert one.match.text != f"process {os.getpid()}"
    assert one.before_s is not None
    assert one.before_s.n == 6  # two pairs at least in each
    assert one.ratio is not None
    assert one.before_s.least < one.before_s.greatest  # each process had a time of its own
    assert one.ratio.low <= one.before_s.least
    assert one.ratio.high >= one.before_s.greatest
    assert one.why == "because"
    assert (gpu.verdict, broken.verdict, broken.note) == ("not measured", "not measured", "no such model")
    assert part.effect is not None
    assert part.effect.share > 0.9  # six seconds of a step that takes a few milliseconds
    assert outcome.conclusions == (f"concluded in {os.getpid()}",)


def test_each_of_several_processes_measures_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "effect_of", lambda case, row, context: None)
    seen: list[object] = []
    outcome = run_experiment(
        fresh_rows.WHOLE,
        LabContext(budget_s=0.01),
        lambda row: seen.append(row.name),
        lambda number, n: seen.append((number, n)),
    )
    assert outcome.broken_by is None
    assert seen == [(1, 3), (2, 3), (3, 3), "first", "gpu", "broken", "last"]
    first, gpu, broken, last = outcome.rows
    assert (gpu.note, broken.note) == ("no device", "no such model")
    for row in (first, last):
        assert row.processes == 3
        assert row.before_s is not None
        assert row.before_s.n == 6
        assert row.before_s.least < row.before_s.greatest
    assert outcome.conclusions == (f"concluded in {os.getpid()}",)


def test_rows_that_not_all_processes_measured_are_kept(tmp_path: Path) -> None:
    outcome = run_experiment(fresh_rows.WHOLE, LabContext(budget_s=0.01, tokenizer_path=tmp_path / "seen"))
    assert str(outcome.broken_by) == "out of order"
    assert [(row.name, row.processes) for row in outcome.rows] == [
        ("first", 2),
        ("gpu", 0),
        ("broken", 0),
        ("last", 1),
    ]
    assert outcome.rows[3].before_s is not None
    assert outcome.rows[3].before_s.n == 2


def test_every_experiment_measures_its_rows_in_several_processes() -> None:
    assert [one.name for one in registry() if one.processes < 2] == []


def test_where_one_process_measures_all_rows_the_conclusions_say_so() -> None:
    experiment = replace(fresh_rows.EXPERIMENT, processes=0, conclude=None)
    outcome = run_experiment(experiment, LabContext(budget_s=0.01))
    assert outcome.conclusions == (runner.ONE_PROCESS,)
    gone = replace(experiment, cases=lambda context: iter([NotMeasured("gpu", "no device")]))
    assert run_experiment(gone, LabContext(budget_s=0.01)).conclusions == ()


def test_the_runs_that_follow_each_other_are_the_control() -> None:
    # A B, B A, A B, B A, A B: the second and third A are neighbours, the fourth and fifth are.
    assert control_interval([9.0, 2.0, 1.0, 3.0, 2.0]) == Interval(1.75, 1.625, 1.875)
    assert control_interval([3.0, 2.0]) == Interval(1.5, 1.5, 1.5)
    assert control_interval([3.0]) is None


def test_processes_are_one_interval_around_all_of_theirs() -> None:
    several = [Interval(2.0, 1.8, 2.1), Interval(3.0, 2.9, 3.1), Interval(2.2, 2.1, 2.3)]
    assert envelope(several) == Interval(2.2, 1.8, 3.1)
    with pytest.raises(ValueError, match="no intervals"):
        envelope([])


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ((2.0, 2.1, 2.0, 2.1, 2.0, 2.1), "confirmed"),
        ((2.0, 2.0, 4.0, 4.0, 2.0, 2.0), "not judged"),  # the same work, twice as long right afterwards
    ],
)
def test_a_busy_machine_gets_no_verdict(runs: tuple[float, ...], verdict: str) -> None:
    case = Case("a", lambda: None, lambda: None, Claim(1.1), check=same)
    row = row_of(case, [Samples(runs, (1.0,) * len(runs), AGREE)])
    assert row.verdict == verdict
    assert (row.note == "the machine is busy") == (verdict == "not judged")
    assert control(row).endswith(")")


def test_outputs_that_differ_refute_on_a_busy_machine_too() -> None:
    busy = Interval(1.0, 0.2, 5.0)
    assert Claim().judge(Interval(2.0, 1.9, 2.1), Match(False, "off"), busy) == "refuted"
    assert Claim().judge(Interval(2.0, 1.9, 2.1), AGREE, busy) == "not judged"
    assert Claim().judge(Interval(2.0, 1.9, 2.1), AGREE, Interval(1.0, 0.9, 1.1)) == "confirmed"


def test_one_process_whose_outputs_differ_refutes() -> None:
    case = Case("a", lambda: None, lambda: None, check=same)
    fine, off = (Samples((2.0, 2.0), (1.0, 1.0), match) for match in (AGREE, Match(False, "off")))
    assert row_of(case, [fine, off], 2).verdict == "refuted"


def test_the_effect_on_a_step_is_share_and_ratio_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 100 ms, 10 of them the operation as it is: as before 90 + 5 x 4 ms, as after 90 + 5 x 1."""
    part = Part(("RoPE",), 5.0, "decode", "default")
    case = Case("a", lambda: Timed([], 4e-3), lambda: Timed([], 1e-3), check=same, part=part)
    row = row_of(case, [Samples((4e-3, 4e-3), (1e-3, 1e-3), AGREE)])
    step = StepTimes(0.1, {"RoPE": 0.01, "norm": 0.02})
    monkeypatch.setattr(effects, "_measured", lambda context, part: step)
    effect = effect_of(case, row, LabContext(model_path=runner.__file__))  # type: ignore[arg-type]
    assert effect is not None
    assert effect.share == pytest.approx(20 / 110)
    assert effect.whole == pytest.approx(110 / 95)
    assert effect_of(case, row, LabContext()) is None  # no default model here
    shown = replace(row, effect=effect, why="a cause", processes=3)
    assert (
        reason(shown) == "a cause; 18 % of a decode step of the default model, which becomes 1.158x as fast"
    )
    assert "2 in 3 processes" in full_cells(shown)
