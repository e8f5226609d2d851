"""Runs an experiment's cases: before and after in turn, enough pairs for an interval, outputs compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from llama_core.errors import LlamaCoreError
from llama_core.profiling.lab.experiment import Case, Experiment, LabContext, NotMeasured, Row, Timed
from llama_core.profiling.statistics import ratio_interval, spread

# A sample shorter than this is repeated within the sample: the clock and the loop must not matter.
_SAMPLE_S = 2e-3
# More pairs hardly narrow the interval.
MAX_PAIRS = 40
# How many times its budget a row may take before its pairs are cut to three.
_PATIENCE = 5.0
# A call as long as this is warm after the run that its output was taken from.
_LONG_S = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """An experiment that has run: its rows in order, the sentences concluded, and how long it all took.

    `broken_by`: what ended it before its time, an error or Ctrl+C; the rows up to there stand.
    """

    experiment: Experiment
    rows: tuple[Row, ...]
    conclusions: tuple[str, ...]
    elapsed_s: float
    broken_by: Exception | KeyboardInterrupt | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """Before, or after. `has_clock`: it returns its seconds itself (`Timed`)."""

    call: Callable[[], Any]
    has_clock: bool


def _sample(side: _Side, loops: int, prepare: Callable[[], Any] | None) -> float:
    """Seconds per call, over `loops` calls."""
    call = side.call
    if prepare is not None or loops == 1 or side.has_clock:
        return sum(_run(call, prepare)[1] for _ in range(loops)) / loops
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def _run(call: Callable[[], Any], prepare: Callable[[], Any] | None) -> tuple[Any, float, bool]:
    """One call's output, its seconds, and whether they are by its own clock."""
    if prepare is not None:
        prepare()
    start = time.perf_counter()
    output = call()
    elapsed = time.perf_counter() - start
    if isinstance(output, Timed):
        return output.output, output.seconds, True
    return output, elapsed, False


def measure(case: Case, budget_s: float) -> Row:
    """One row. How many pairs are taken is settled by the first, warm run of each side, before any result is
    seen, so that the interval is honest. The order changes from pair to pair (A B, B A).

    Raises what the case raises, and ValueError where its own clock gives a time that is not positive.
    """
    calls = (case.before, case.after)
    outputs, first, has_clock = zip(*(_run(call, case.prepare) for call in calls), strict=True)
    match = case.check(*outputs)
    del outputs
    sides = [_Side(call, own) for call, own in zip(calls, has_clock, strict=True)]
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        times = [
            s if s > _LONG_S else _sample(side, 1, case.prepare) for side, s in zip(sides, first, strict=True)
        ]
        loops = [max(1, round(_SAMPLE_S / max(s, 1e-9))) for s in times]
        pair_s = sum(max(s, _SAMPLE_S) for s in times)
        budget_s = case.budget_s or budget_s
        # On a busy machine a long row must not hold up all others: three pairs, and a wide interval.
        least = case.min_pairs if case.min_pairs * pair_s < _PATIENCE * budget_s else min(3, case.min_pairs)
        pairs = min(MAX_PAIRS, max(least, int(budget_s / pair_s)))
        runs: tuple[list[float], list[float]] = ([], [])
        for i in range(pairs):
            for side in (0, 1) if i % 2 == 0 else (1, 0):
                runs[side].append(_sample(sides[side], loops[side], case.prepare))
    finally:
        if was_enabled:
            gc.enable()
    ratio = ratio_interval(*runs)
    return Row(
        name=case.name,
        verdict=case.claim.judge(ratio, match),
        claim=str(case.claim),
        ratio=ratio,
        before_s=spread(runs[0]),
        after_s=spread(runs[1]),
        match=match,
        work=case.work,
        unit=case.unit,
        note=case.note,
        headline=case.headline,
    )


def run_experiment(
    experiment: Experiment, context: LabContext, on_row: Callable[[Row], None] | None = None
) -> Outcome:
    """Every case of one experiment, in order; `on_row` sees each row as it is done.

    Raises nothing for a case that fails or for Ctrl+C: see Outcome.
    """
    start = time.perf_counter()
    rows: list[Row] = []
    conclusions: tuple[str, ...] = ()
    broken_by: Exception | KeyboardInterrupt | None = None
    cases = experiment.cases(context)
    try:
        for case in cases:
            rows.append(_row(case, context.budget_s))
            if on_row:
                on_row(rows[-1])
        if experiment.conclude:
            conclusions = tuple(experiment.conclude(context, rows))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the rows measured before it must not be lost
        broken_by = error
    try:
        # Cases made one by one hold models and threads; they are let go here, not when memory is collected.
        if isinstance(cases, Generator):
            cases.close()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a second Ctrl+C cuts this short
        broken_by = broken_by or error
    return Outcome(experiment, tuple(rows), conclusions, time.perf_counter() - start, broken_by)


def _row(case: Case | NotMeasured, budget_s: float) -> Row:
    if isinstance(case, NotMeasured):
        return Row(case.name, "not measured", "", note=case.reason)
    try:
        return measure(case, budget_s)
    except (MemoryError, LlamaCoreError) as error:
        return Row(case.name, "not measured", "", note=str(error) or type(error).__name__)
