"""Outcomes on disk: one JSON line an experiment, appended and never rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_core.profiling.lab.record import BadRecordError, Record, from_line
from llama_core.profiling.lab.runner import Outcome


def now() -> str:
    """The time to the second (ISO, UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_record(outcome: Outcome, machine: Mapping[str, Any], *, incomplete: str = "", run: str = "") -> Record:
    """What is kept of an outcome. `incomplete` and `run`: see Record."""
    experiment = outcome.experiment
    return Record(
        number=experiment.number,
        name=experiment.name,
        title=experiment.title,
        hypothesis=experiment.hypothesis,
        refuted_if=experiment.refuted_if,
        time=now(),
        elapsed_s=outcome.elapsed_s,
        machine=dict(machine),
        rows=outcome.rows,
        conclusions=outcome.conclusions,
        incomplete=incomplete,
        run=run,
    )


def read(path: Path) -> tuple[list[Record], list[str]]:
    """Every record of a results file, and a sentence for each line that holds none.

    Raises OSError where the file cannot be read.
    """
    records, passed_over = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                records.append(from_line(line))
            except BadRecordError as error:
                passed_over.append(f"line {number} of {path} is passed over: {error}")
    return records, passed_over


def latest(records: Sequence[Record]) -> list[Record]:
    """The last record of each experiment, in their order; one that broke off only where none is whole."""
    newest: dict[str, Record] = {}
    for record in records:
        there = newest.get(record.name)
        if there is None or there.incomplete or not record.incomplete:
            newest[record.name] = record
    return sorted(newest.values(), key=lambda record: record.number)
