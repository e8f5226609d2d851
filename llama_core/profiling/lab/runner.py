"""Runs an experiment's cases: before and after in turn, enough pairs for an interval, outputs compared.

An experiment with `processes` has each row measured in as many fresh processes, one after the other, each of
which makes the cases anew and runs one of them:

    row 0   process 1 | A B B A ... |  process 2 | A B B A ... |  process 3 | A B B A ... |   -> one row
    row 1   ...

Its interval covers what each process found, as pyperf's does. The A that follow each other directly are a
control: the ratio of work to itself.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from llama_core.blas import BlasThreads
from llama_core.errors import LlamaCoreError
from llama_core.profiling.fresh_process import in_fresh_process
from llama_core.profiling.lab.effects import effect_of
from llama_core.profiling.lab.experiment import (
    BUSY,
    Case,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Row,
    Timed,
    same,
)
from llama_core.profiling.statistics import control_interval, envelope, ratio_interval, spread

# A sample shorter than this is repeated within the sample: the clock and the loop must not matter.
_SAMPLE_S = 2e-3
# More pairs hardly narrow the interval.
MAX_PAIRS = 40
# How many times its budget a row may take before its pairs are cut to three.
_PATIENCE = 5.0
# Said where an experiment's own words (`Experiment.processes`) ask for none of its own for each row.
ONE_PROCESS = (
    "all rows were measured in one process, since its models would have to be made anew in each; what a row "
    "leaves in memory may touch the next"
)
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
class Samples:
    """What one process measured of a case: seconds per call of each run, in the order of the pairs, and
    whether the outputs matched."""

    before_s: tuple[float, ...]
    after_s: tuple[float, ...]
    match: Match


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


def sample(case: Case, budget_s: float, processes: int = 1) -> Samples:
    """The runs of one of `processes` that share the case's budget. How many pairs are taken is settled by the
    first, warm run of each side, before any result is seen, so that the interval is honest. The order changes
    from pair to pair (A B, B A).

    Raises what the case raises.
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
        budget_s = (case.budget_s or budget_s) / processes
        least = math.ceil(case.min_pairs / processes)
        # On a busy machine a long row must not hold up all others: three pairs, and a wide interval.
        least = max(2, least if least * pair_s < _PATIENCE * budget_s else min(3, least))
        runs: tuple[list[float], list[float]] = ([], [])
        for i in range(min(MAX_PAIRS, max(least, int(budget_s / pair_s)))):
            for side in (0, 1) if i % 2 == 0 else (1, 0):
                runs[side].append(_sample(sides[side], loops[side], case.prepare))
    finally:
        if was_enabled:
            gc.enable()
    return Samples(tuple(runs[0]), tuple(runs[1]), match)


def row_of(case: Case, found: list[Samples], processes: int = 0) -> Row:
    """One row from what each process measured.

    Raises ValueError where a case's own clock gives a time that is not positive.
    """
    ratio = envelope([ratio_interval(one.before_s, one.after_s) for one in found])
    controls = [control for one in found if (control := control_interval(one.before_s)) is not None]
    control = envelope(controls) if controls else None
    match = next((one.match for one in found if not one.match.ok), found[0].match)
    verdict = case.claim.judge(ratio, match, control)
    return Row(
        name=case.name,
        verdict=verdict,
        claim=str(case.claim),
        ratio=ratio,
        before_s=spread([run for one in found for run in one.before_s]),
        after_s=spread([run for one in found for run in one.after_s]),
        match=match,
        work=case.work,
        unit=case.unit,
        note="; ".join(part for part in (case.note, BUSY if verdict == "not judged" else "") if part),
        headline=case.headline,
        control=control,
        processes=processes,
        why=case.why,
        limit_s=case.limit_s,
    )


def measure(case: Case, budget_s: float) -> Row:
    """One row, measured in this process. Raises what the case raises, and ValueError as `row_of`."""
    return row_of(case, [sample(case, budget_s)])


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
    cases = () if experiment.processes else experiment.cases(context)
    measured = _in_processes(experiment, context) if experiment.processes else _here(cases, context)
    try:
        for row in measured:
            rows.append(row)
            if on_row:
                on_row(row)
        if experiment.conclude:
            conclusions = tuple(experiment.conclude(context, rows))
        if not experiment.processes and any(row.ratio for row in rows):
            conclusions = (*conclusions, ONE_PROCESS)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the rows measured before it must not be lost
        broken_by = error
    try:
        # Cases made one by one hold models and threads; they are let go here, not when memory is collected.
        if isinstance(cases, Generator):
            cases.close()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a second Ctrl+C cuts this short
        broken_by = broken_by or error
    return Outcome(experiment, tuple(rows), conclusions, time.perf_counter() - start, broken_by)


def _here(cases: Iterable[Case | NotMeasured], context: LabContext) -> Iterator[Row]:
    """Every row, measured in this process."""
    for case in cases:
        yield _row(case, lambda case: [sample(case, context.budget_s)], context)


def _in_processes(experiment: Experiment, context: LabContext) -> Iterator[Row]:
    """Every row, each in fresh processes."""
    for index in itertools.count():
        case, first = _in_process(experiment, context, index)
        if case is None:
            return
        others = range(experiment.processes - 1)

        def found(_: Case, first: Samples | None = first, index: int = index, others: Any = others) -> Any:
            assert first is not None  # a Case comes with its samples
            return [first, *(_in_process(experiment, context, index)[1] for _ in others)]

        yield _row(case, found, context, experiment.processes)


def _in_process(
    experiment: Experiment, context: LabContext, index: int
) -> tuple[Case | NotMeasured | None, Samples | None]:
    return in_fresh_process(measure_one, replace(experiment, conclude=None), context.fresh(), index)


def measure_one(
    experiment: Experiment, context: LabContext, index: int
) -> tuple[Case | NotMeasured | None, Samples | None]:
    """In a process of its own: the case with this number, without its callables, and its samples.

    None for a number behind the last. A case that cannot be measured is a NotMeasured. Raises what it raises.
    """
    blas = BlasThreads(context.threads)
    cases: Iterator[Case | NotMeasured] = experiment.cases(context)
    try:
        case = next(itertools.islice(cases, index, None), None)
        if not isinstance(case, Case):
            return case, None
        try:
            samples = sample(case, context.budget_s, experiment.processes)
        except (MemoryError, LlamaCoreError) as error:
            return NotMeasured(case.name, str(error) or type(error).__name__), None
        return replace(case, before=_gone, after=_gone, check=same, prepare=None), samples
    finally:
        blas.restore()
        if isinstance(cases, Generator):
            cases.close()


def _gone() -> None:
    """Stands for a case's callable that stayed in its process."""


def _row(
    case: Case | NotMeasured,
    samples: Callable[[Case], list[Samples]],
    context: LabContext,
    processes: int = 0,
) -> Row:
    if isinstance(case, NotMeasured):
        return Row(case.name, "not measured", "", note=case.reason)
    try:
        row = row_of(case, samples(case), processes)
    except (MemoryError, LlamaCoreError) as error:
        return Row(case.name, "not measured", "", note=str(error) or type(error).__name__)
    return replace(row, effect=effect_of(case, row, context)) if case.part else row
