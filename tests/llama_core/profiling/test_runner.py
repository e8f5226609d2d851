"""The runner on made-up experiments: it finds what is faster and refuses what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from llama_core.errors import LlamaCoreError
from llama_core.profiling import report, results
from llama_core.profiling.experiment import (
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
from llama_core.profiling.machine import describe_machine
from llama_core.profiling.runner import measure, run_experiment
from llama_core.profiling.statistics import Interval

AGREE = Match(True, "identical")
MACHINE = describe_machine()


def work(n: int) -> list[int]:
    return list(range(n))[-3:]


def slow() -> list[int]:
    return [x % 1000 for x in work(200_000)]


def quick() -> list[int]:
    return [x % 1000 for x in work(20_000)]


def experiment(*cases: Case | NotMeasured) -> Experiment:
    def give(context: LabContext) -> Iterator[Case | NotMeasured]:
        yield from cases

    return Experiment(
        99, "fake", "A fake", "Quick | slow", "it is slower", give, lambda c, rows: [f"{len(rows)} rows"]
    )


def test_a_tenfold_saving_is_confirmed() -> None:
    row = measure(Case("a", slow, quick, check=same), 0.05)
    assert row.verdict == "confirmed"
    assert row.ratio is not None
    assert row.ratio.low > 2
    assert row.match == Match(True, "identical (3 items)")
    assert row.before_s is not None
    assert row.before_s.n >= 3


def test_a_loss_is_refuted() -> None:
    assert measure(Case("a", quick, slow, check=same), 0.05).verdict == "refuted"


def test_a_tenfold_saving_with_other_results_is_refuted() -> None:
    row = measure(Case("a", slow, lambda: [*quick(), 1], check=same), 0.05)
    assert row.verdict == "refuted"
    assert row.match == Match(False, "different")
    assert report.row_cells(row)[5].startswith("DIFFER")


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
    assert not check(np.array([1.0, 0.0]), np.array([1.05, 0.0])).ok
    assert not check(np.ones(3), np.ones(2)).ok
    assert not check(np.ones(2), np.array([1.0, np.nan])).ok


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
    assert outcome.conclusions == ("3 rows",)


def test_a_broken_case_keeps_the_rows_before_it() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    fine = Case("b", slow, quick, check=same)
    outcome = run_experiment(experiment(fine, Case("broken", fail, fail), fine), LabContext(budget_s=0.02))
    assert [row.name for row in outcome.rows] == ["b"]
    assert isinstance(outcome.broken_by, ZeroDivisionError)
    assert outcome.conclusions == ()


def test_results_survive_the_disk_and_a_torn_tail(tmp_path: Path) -> None:
    outcome = run_experiment(
        experiment(NotMeasured("gpu", "no device"), Case("b", slow, quick, check=same)),
        LabContext(budget_s=0.02),
    )
    path = tmp_path / "results.jsonl"
    record = results.to_record(outcome, MACHINE)
    results.append(path, record)
    results.append(path, record | {"hypothesis": "newer"})
    with path.open("a") as file:
        file.write('{"name": "torn')
    read = results.read(path)
    assert [r["hypothesis"] for r in read] == ["Quick | slow", "newer"]
    assert json.loads(json.dumps(record)) == read[0]
    assert tuple(results.rows_of(read[0])) == outcome.rows
    assert [r["hypothesis"] for r in results.latest(read)] == ["newer"]


def test_the_findings_name_every_verdict_and_fit_into_a_readme() -> None:
    outcome = run_experiment(
        experiment(NotMeasured("gpu", "no device"), Case("quick", slow, quick, check=same)),
        LabContext(budget_s=0.02),
    )
    text = report.findings([results.to_record(outcome, MACHINE)])
    assert "| 99 A fake | quick |" in text
    assert "faster: confirmed" in text
    assert "2 rows: 1 confirmed, 0 refuted, 0 open, 1 not measured." in text
    readme = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    replaced = report.put_into(readme, text)
    assert "old" not in replaced
    assert report.put_into(replaced, text) == replaced
    assert replaced.startswith("before\n")
    assert replaced.endswith(f"{report.END}\nafter\n")
    with pytest.raises(ValueError, match="markers"):
        report.put_into("no markers", text)


@pytest.mark.parametrize(
    ("value", "text"), [(0.8666, "0.867"), (1.0, "1"), (27.44, "27.4"), (100.4, "100"), (2034.9, "2,035")]
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert report.number(value) == text
