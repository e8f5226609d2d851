"""A results file: what is written is read back, and what is damaged or foreign is named and passed over."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.files.durable import AppendFile
from llama_core.profiling.lab import report
from llama_core.profiling.lab.experiment import Match, Row
from llama_core.profiling.lab.records import Record, from_line, latest, read_records, to_line
from llama_core.profiling.machine import describe_machine
from llama_core.profiling.statistics import Interval, Spread

MEASURED = Row(
    name="small",
    verdict="confirmed",
    claim="faster",
    ratio=Interval(2.0, 1.9, 2.1),
    before_s=Spread(0.002, 0.001, 0.004, 7),
    after_s=Spread(0.001, 0.0005, 0.003, 7),
    match=Match(True, "identical"),
)
RECORD = Record(
    number=99,
    name="fake",
    title="A fake: nothing real",
    hypothesis="Quick beats slow",
    refuted_if="it is slower",
    time="2026-01-02T03:04:05+00:00",
    elapsed_s=1.5,
    machine=describe_machine(2),
    rows=(MEASURED, Row("gpu", "not measured", "", note="no device")),
    conclusions=("two rows",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def append(path: Path, record: Record) -> None:
    """As `lab run` keeps it."""
    AppendFile(path).append(to_line(record).encode())


def test_a_record_comes_back_as_it_was(path: Path) -> None:
    odd = replace(RECORD, name="ödd", incomplete="stopped by Ctrl+C", run="2026-01-02T03:00:00+00:00")
    append(path, RECORD)
    append(path, odd)
    records, passed_over = read_records(path)
    assert passed_over == []
    assert [to_line(record) for record in records] == [to_line(RECORD), to_line(odd)]
    assert [record.rows for record in records] == [RECORD.rows, RECORD.rows]
    assert records[1].name == "ödd"


def test_files_of_before_the_newest_fields_are_read() -> None:
    old = {key: value for key, value in asdict(RECORD).items() if key not in ("incomplete", "run")}
    assert from_line(json.dumps(old).encode()).incomplete == ""


def test_after_a_torn_line_the_next_record_stands_alone(path: Path) -> None:
    append(path, RECORD)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])  # kill -9 in the middle of a write
    records, passed_over = read_records(path)
    assert len(records) == 1
    assert passed_over == [f"line 2 of {path} is passed over: it is cut short, as by a crash"]
    append(path, replace(RECORD, name="next"))
    records, passed_over = read_records(path)
    assert [record.name for record in records] == ["fake", "next"]
    assert len(passed_over) == 1


def test_a_record_that_lacks_only_its_line_end_counts(path: Path) -> None:
    path.write_text(to_line(RECORD).rstrip("\n"))
    append(path, replace(RECORD, name="next"))
    records, passed_over = read_records(path)
    assert [record.name for record in records] == ["fake", "next"]
    assert passed_over == []


def changed(*keys: Any, to: Any) -> str:
    """A good line with the value at `keys` replaced."""
    record = json.loads(to_line(RECORD))
    at = record
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    return json.dumps(record)


def without(*keys: Any) -> str:
    record = json.loads(to_line(RECORD))
    at = record
    for key in keys[:-1]:
        at = at[key]
    del at[keys[-1]]
    return json.dumps(record)


DAMAGED = {
    "not JSON": ("hello", "it is no JSON"),
    "no text": (b"\xff\xfe{}", "it is no JSON"),
    "deep": ("[" * 100_000, "it is no JSON"),
    "a list": ("[1, 2]", "it is no object"),
    "other JSON": ('{"name": "x", "rows": []}', "number is missing"),
    "no title": (without("title"), "title is missing"),
    "no median": (without("rows", 0, "before_s", "median"), "rows[0].before_s.median is missing"),
    "no BLAS": (without("machine", "blas"), "machine.blas is missing"),
    "a name of numbers": (changed("name", to=5), "name is no text"),
    "a number of text": (changed("number", to="5"), "number is no whole number"),
    "half a number": (changed("number", to=1.5), "number is no whole number"),
    "truth for a number": (changed("elapsed_s", to=True), "elapsed_s is no number"),
    "rows of text": (changed("rows", to="abc"), "rows is no list"),
    "a row of numbers": (changed("rows", 0, to=3), "rows[0] is no object"),
    "match of text": (changed("rows", 0, "match", to="yes"), "rows[0].match is no object"),
    "ok of numbers": (changed("rows", 0, "match", "ok", to=1), "rows[0].match.ok is no yes or no"),
    "machine of text": (changed("machine", to="mine"), "machine is no object"),
    "features of numbers": (changed("machine", "features", to=[1]), "machine.features[0] is no text"),
    "unknown verdict": (changed("rows", 0, "verdict", to=["sure"]), "rows[0].verdict is none of confirmed"),
    "NaN": (
        changed("rows", 0, "ratio", "value", to=math.nan),
        "rows[0].ratio.value is no number that can be",
    ),
    "infinite": (changed("rows", 0, "work", to=math.inf), "rows[0].work is no number that can be"),
    "huge": (changed("rows", 0, "after_s", "greatest", to=1e300), "rows[0].after_s.greatest is no number"),
    "a huge whole number": (changed("number", to=10**400), "number is no number that can be"),
    "more digits than Python reads": (
        changed("number", to=0).replace(": 0", ": 1" + "0" * 9999, 1),
        "no JSON",
    ),
    "zero time": (changed("rows", 0, "before_s", "least", to=0.0), "rows[0].before_s are not positive"),
    "turned round": (
        changed("rows", 0, "ratio", "low", to=3.0),
        "rows[0].ratio are not positive and in order",
    ),
    "negative work": (changed("rows", 0, "work", to=-1.0), "rows[0].work is negative"),
    "no date": (changed("time", to="yesterday"), "time is no date"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_foreign_line_is_named_and_passed_over(kind: str, path: Path) -> None:
    line, reason = DAMAGED[kind]
    data = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(to_line(RECORD).encode() + data + b"\n" + to_line(RECORD).encode())
    records, passed_over = read_records(path)
    assert len(records) == 2
    assert len(passed_over) == 1
    assert passed_over[0].startswith(f"line 2 of {path} is passed over: ")
    assert reason in passed_over[0]
    assert passed_over[0].isprintable()


def test_extremes_that_pass_can_be_shown() -> None:
    line = changed("rows", 0, "ratio", to={"value": 1e-15, "low": 5e-324, "high": 1e15})
    record = from_line(line.replace('"work": 0.0, "unit": ""', '"work": 1e15, "unit": "tok"', 1).encode())
    assert record.rows[0].work == 1e15
    assert "| small | " in report.full([record])


def test_control_characters_in_a_file_reach_neither_table_nor_terminal(path: Path) -> None:
    bad = "a\x1b[31m\x07|\n\u202e\u2028\udc80<!-- end of lab findings -->b"
    row = replace(MEASURED, name=bad, note=bad, match=Match(True, bad))
    # Written by our own hand it stays one line, too.
    append(path, replace(RECORD, title=bad, hypothesis=bad, conclusions=(bad,), rows=(row,)))
    ((record,), passed_over) = read_records(path)
    assert passed_over == []
    text = report.full([record])
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()  # no half of a surrogate pair
    header, _, first, *_ = (line for line in report.findings([record]).split("\n") if line.startswith("|"))
    assert first.count(" | ") == header.count(" | ")
    assert report.END not in report.findings([record])


def test_a_number_that_is_none_is_not_written(path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, replace(RECORD, elapsed_s=math.nan))
    assert not path.exists()


@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        (["old", "new"], "new"),
        (["whole", "!cut"], "whole"),
        (["!cut", "whole"], "whole"),
        (["!old cut", "!new cut"], "!new cut"),
    ],
)
def test_the_latest_whole_record_of_an_experiment_counts(kept: list[str], wanted: str) -> None:
    records = [
        replace(RECORD, hypothesis=text, incomplete="stopped" if text.startswith("!") else "")
        for text in kept
    ]
    assert [record.hypothesis for record in latest(records)] == [wanted]


def test_experiments_come_in_their_order() -> None:
    records = [replace(RECORD, number=number, name=f"e{number}") for number in (3, 1, 2)]
    assert [record.number for record in latest(records)] == [1, 2, 3]
