"""Outcomes on disk: one JSON line an experiment, appended and never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_core.profiling.experiment import Match, Row
from llama_core.profiling.runner import Outcome
from llama_core.profiling.statistics import Interval, Spread


def to_record(outcome: Outcome, machine: Mapping[str, Any]) -> dict[str, Any]:
    """What is written: the experiment's own words, its rows, the machine and versions, the time (UTC)."""
    experiment = outcome.experiment
    return {
        "number": experiment.number,
        "name": experiment.name,
        "title": experiment.title,
        "hypothesis": experiment.hypothesis,
        "refuted_if": experiment.refuted_if,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "elapsed_s": outcome.elapsed_s,
        "machine": dict(machine),
        "rows": [asdict(row) for row in outcome.rows],
        "conclusions": list(outcome.conclusions),
    }


def rows_of(record: Mapping[str, Any]) -> list[Row]:
    """The rows of a record that was read back. Raises KeyError or TypeError for one that is not ours."""
    parts = {"ratio": Interval, "before_s": Spread, "after_s": Spread, "match": Match}
    return [
        Row(**{k: parts[k](**v) if k in parts and v is not None else v for k, v in row.items()})
        for row in record["rows"]
    ]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and wait until it is on disk. The folder must exist."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        data = memoryview(line.encode())
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a results file; a line torn by a crash is passed over.

    Raises OSError where there is no file.
    """
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "name" in record and "rows" in record:
            records.append(record)
    return records


def latest(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each experiment, in the experiments' order."""
    newest = {record["name"]: record for record in records}
    return sorted(newest.values(), key=lambda record: int(record["number"]))
