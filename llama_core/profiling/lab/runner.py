"""Runs an experiment's cases: before and after in turn, enough pairs for an interval, outputs compared.

An experiment with `processes` has each row measured in as many fresh processes, one after the other. Each of
them makes the cases anew and runs one of them, or all where that is slow (`whole`):

    row 0   process 1 | A B B A ... |  process 2 | A B B A ... |  process 3 | A B B A ... |   -> one row
    row 1   ...

Its interval covers what each process found, as pyperf's does. The A that follow each other directly are a
control: the ratio of work to itself.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from llama_core.blas import BlasThreads
from llama_core.errors import LlamaCoreError
from llama_core.profiling.fresh_process import each_from_fresh_process
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
# Said where an experiment's `processes` ask for none.
ONE_PROCESS = "all rows were measured in one process; what a row leaves in memory may touch the next"
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
    experiment: Experiment,
    context: LabContext,
    on_row: Callable[[Row], None] | None = None,
    on_process: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Every case of one experiment, in order; `on_row` sees each row as it is done, `on_process` the number
    (from 1) of each process that begins to measure them all, and how many there will be.

    Raises nothing for a case that fails or for Ctrl+C: see Outcome.
    """
    start = time.perf_counter()
    rows: list[Row] = []
    conclusions: tuple[str, ...] = ()
    broken_by: Exception | KeyboardInterrupt | None = None
    try:
        with contextlib.closing(_measured(experiment, context, on_process)) as measured:
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
    return Outcome(experiment, tuple(rows), conclusions, time.perf_counter() - start, broken_by)


Measured = tuple[Case | NotMeasured, Samples | None]


def _measured(
    experiment: Experiment, context: LabContext, on_process: Callable[[int, int], None] | None
) -> Generator[Row, None, None]:
    """Every row."""
    if not experiment.processes:
        return _here(experiment, context)
    if experiment.whole:
        return _in_rounds(experiment, context, on_process)
    return _each_in_its_own(experiment, context)


def _here(experiment: Experiment, context: LabContext) -> Generator[Row, None, None]:
    """Every row, measured in this process."""
    cases = experiment.cases(context)
    try:
        for case in cases:
            yield _row(case, lambda case: [sample(case, context.budget_s)], context)
    except BaseException:  # Ctrl+C, and a caller that wants no more rows
        # Cases made one by one hold models and threads; they are let go here, not when memory is collected.
        with contextlib.suppress(Exception, KeyboardInterrupt):  # what ended it is told, not what came after
            if isinstance(cases, Generator):
                cases.close()
        raise


def _each_in_its_own(experiment: Experiment, context: LabContext) -> Generator[Row, None, None]:
    """Every row, each in fresh processes."""
    for index in itertools.count():
        first = next(_from_process(experiment, context, index), None)
        if first is None:
            return
        case, samples = first

        def found(_: Case, samples: Samples | None = samples, index: int = index) -> list[Samples]:
            others = (
                next(_from_process(experiment, context, index))[1] for _ in range(1, experiment.processes)
            )
            return [one for one in (samples, *others) if one is not None]

        yield _row(case, found, context, experiment.processes)


def _in_rounds(
    experiment: Experiment, context: LabContext, on_process: Callable[[int, int], None] | None
) -> Generator[Row, None, None]:
    """Every row, measured by each of the processes; a row is done with the last of them.

    What is measured when this is cut short comes as rows of fewer processes, before the error is raised.
    """
    cases: list[Case | NotMeasured] = []
    found: list[list[Samples]] = []
    n_done = 0

    def row(index: int, case: Case | NotMeasured) -> Row:
        return _row(case, lambda _: found[index], context, len(found[index]))

    try:
        for number in range(1, experiment.processes + 1):
            if on_process:
                on_process(number, experiment.processes)
            for index, (case, samples) in enumerate(_from_process(experiment, context)):
                if index == len(cases):
                    cases.append(case)
                    found.append([])
                if samples is not None:
                    cases[index] = case
                    found[index].append(samples)
                if number == experiment.processes:
                    n_done = index + 1
                    yield row(index, cases[index])
    except (Exception, KeyboardInterrupt):  # whatever ends it: what was measured is kept
        for index, case in enumerate(cases[n_done:], n_done):
            # Without the effect on a step, which would have to be measured first.
            yield row(index, replace(case, part=None) if isinstance(case, Case) else case)
        raise


def _from_process(
    experiment: Experiment, context: LabContext, index: int | None = None
) -> Generator[Measured, None, None]:
    return each_from_fresh_process(measure_cases, replace(experiment, conclude=None), context.fresh(), index)


def measure_cases(
    experiment: Experiment, context: LabContext, index: int | None = None
) -> Iterator[Measured]:
    """In a process of its own: each case, or the one with this number, without its callables, and its
    samples.

    A case that cannot be measured is a NotMeasured. Raises what a case raises.
    """
    blas = BlasThreads(context.threads)
    cases: Iterator[Case | NotMeasured] = experiment.cases(context)
    chosen = cases if index is None else itertools.islice(cases, index, index + 1)
    try:
        for case in chosen:
            yield _sampled(case, context.budget_s, experiment.processes)
    finally:
        blas.restore()
        if isinstance(cases, Generator):
            cases.close()


def _sampled(case: Case | NotMeasured, budget_s: float, processes: int) -> Measured:
    if isinstance(case, NotMeasured):
        return case, None
    try:
        samples = sample(case, budget_s, processes)
    except (MemoryError, LlamaCoreError) as error:
        return NotMeasured(case.name, str(error) or type(error).__name__), None
    return replace(case, before=_gone, after=_gone, check=same, prepare=None), samples


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
