"""One experiment as it is kept: a line of a results file, and the check that a line read back is one.

A results file may be damaged, edited or another program's. What passes here can be shown: every number is
finite and of a size that clocks give, every text is one printable line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from llama_core.profiling.lab.experiment import Row
from llama_core.profiling.lab.runner import Outcome
from llama_core.profiling.statistics import Interval, Spread

# No time, rate or ratio that this laboratory measures comes near it.
_LARGEST = 1e15
# What `machine_lines` needs of a machine; more may stand there.
_MACHINE: dict[str, Any] = {
    **dict.fromkeys(("cpu", "system", "python", "numpy", "blas", "blas_kernel"), str),
    **dict.fromkeys(("cores", "cache_mib"), int),
    "memory_gib": float,
    "features": tuple[str, ...],
    "numba": str | None,
    "threads": int | None,
    "load_average": tuple[float, ...] | None,
}


@dataclass(frozen=True, slots=True)
class Record:
    """An experiment's own words, its rows, the machine and versions, the time it ended (ISO, UTC).

    `incomplete`: why it ended before its last row, empty where it did not. `run`: when the run of several
    experiments began that this one was part of (ISO, UTC); older files do not tell.
    """

    number: int
    name: str
    title: str
    hypothesis: str
    refuted_if: str
    time: str
    elapsed_s: float
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    conclusions: tuple[str, ...]
    incomplete: str = ""
    run: str = ""


class BadRecordError(ValueError):
    """A line that holds no result; the text says what is wrong with it."""


def to_line(record: Record) -> str:
    """The record as a line of JSON in ASCII, with its end.

    Raises ValueError for a number that is not finite.
    """
    # ASCII: a note may hold half a surrogate pair (from a file's name), which no UTF-8 file can.
    return json.dumps(asdict(record), allow_nan=False) + "\n"


def to_json(records: Sequence[Record]) -> str:
    """Records as one JSON list, an object each as `to_line` writes it. Raises ValueError as it does."""
    return "[" + ",\n".join(to_line(record).rstrip() for record in records) + "]\n"


def from_line(line: bytes) -> Record:
    """The record that `to_line` wrote. Raises BadRecordError for anything else."""
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        torn = line.startswith(b"{") and not line.endswith(b"\n")
        raise BadRecordError("it is cut short, as by a crash" if torn else "it is no JSON") from None
    record: Record = _object(Record, value, "")
    _check_machine(record.machine)
    for name in ("time", "run"):
        moment = getattr(record, name)
        if moment or name == "time":
            _check_time(moment, name)
    for i, row in enumerate(record.rows):
        _check_row(row, f"rows[{i}]")
    return record


def utc(moment: str) -> datetime:
    """An ISO time as UTC, which is also meant where none is named. Raises ValueError."""
    parsed = datetime.fromisoformat(moment)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _check_time(moment: str, where: str) -> None:
    try:
        utc(moment)
    except (ValueError, OverflowError):
        raise BadRecordError(f"{where} is no date") from None


def _check_machine(machine: dict[str, Any]) -> None:
    for key, kind in _MACHINE.items():
        if key not in machine:
            raise BadRecordError(f"machine.{key} is missing")
        machine[key] = _as(kind, machine[key], f"machine.{key}")


def _check_row(row: Row, where: str) -> None:
    for name in ("ratio", "before_s", "after_s", "control"):
        part: Interval | Spread | None = getattr(row, name)
        if part is None:
            continue
        low, middle, high = (
            (part.low, part.value, part.high)
            if isinstance(part, Interval)
            else (part.least, part.median, part.greatest)
        )
        if not 0 < low <= middle <= high:
            raise BadRecordError(f"the numbers of {where}.{name} are not positive and in order")
    for name in ("work", "limit_s"):
        if getattr(row, name) < 0:
            raise BadRecordError(f"{where}.{name} is negative")


def _object(kind: Any, value: Any, where: str) -> Any:
    """A dataclass from a JSON object; keys that it does not know are passed over."""
    if not isinstance(value, dict):
        raise BadRecordError(f"{where or 'it'} is no object")
    types = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        path = f"{where}.{field.name}" if where else field.name
        if field.name in value:
            found[field.name] = _as(types[field.name], value[field.name], path)
        elif field.default is MISSING:
            raise BadRecordError(f"{path} is missing")
    return kind(**found)


def _as(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, a type as the fields above are annotated with. Raises BadRecordError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _as(arguments[0], value, where)
    if origin is Literal:
        if value not in arguments:
            raise BadRecordError(f"{where} is none of {', '.join(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise BadRecordError(f"{where} is no list")
        return tuple(_as(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if is_dataclass(kind):
        return _object(kind, value, where)
    if kind is int or kind is float:
        return _number(kind, value, where)
    if kind is str:
        if not isinstance(value, str):
            raise BadRecordError(f"{where} is no text")
        return printable(value)
    expected, name = (bool, "yes or no") if kind is bool else (dict, "object")
    if not isinstance(value, expected):
        raise BadRecordError(f"{where} is no {name}")
    return value


def _number(kind: type[int] | type[float], value: Any, where: str) -> int | float:
    allowed = int if kind is int else int | float
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise BadRecordError(f"{where} is no {'whole ' if kind is int else ''}number")
    if not abs(value) <= _LARGEST:  # NaN too
        raise BadRecordError(f"{where} is no number that can be measured")
    return kind(value)


def printable(text: str) -> str:
    """`text` as one line: control and other characters that nothing shows become spaces."""
    return "".join(one if one.isprintable() else " " for one in text)


def now_utc() -> str:
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
        time=now_utc(),
        elapsed_s=outcome.elapsed_s,
        machine=dict(machine),
        rows=outcome.rows,
        conclusions=outcome.conclusions,
        incomplete=incomplete,
        run=run,
    )


def read_records(path: Path) -> tuple[list[Record], list[str]]:
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
