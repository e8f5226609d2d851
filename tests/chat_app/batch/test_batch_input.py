"""The input of `llama-chat batch`: changed while it runs, lines without end, what is no file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch import reader as batch_reader
from chat_app.batch.input import BatchInput
from chat_app.batch.output import BatchOutput
from chat_app.batch.reader import read_lines
from tests.support.batch_lines import answers, errors, line, read, write

RunCli = Callable[..., Any]


def after_first_result(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """`act` as soon as one result is written."""
    append, acted = BatchOutput.append, []

    def appended(self: BatchOutput, record: Mapping[str, Any]) -> None:
        append(self, record)
        if not acted:
            acted.append(True)
            act()

    monkeypatch.setattr(BatchOutput, "append", appended)


def padded(n: int) -> list[dict[str, Any]]:
    """Requests that are more together than one read of the file takes."""
    return [line(f"r{i}", max_tokens=1, user="x" * 5000) for i in range(n)]


def changed_lines(n: int) -> list[dict[str, Any]]:
    lines = padded(n)
    return [*lines[: n // 2], line("another"), *lines[n // 2 + 1 :]]


CHANGES: dict[str, Callable[[Path, int], object]] = {
    "cut": lambda path, n: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, n: os.truncate(path, 0),
    "a line replaced": lambda path, n: write(path, changed_lines(n)),
    "another file in its place": lambda path, n: os.replace(
        write(path.with_suffix(".new"), [line(f"other{i}") for i in range(n)]), path
    ),
    "removed": lambda path, n: path.unlink(),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("when", ["before the first request", "later"])
def test_an_input_that_changes_is_told_and_what_was_begun_is_kept(
    batch: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, when: str
) -> None:
    n = 40
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    # The junk is reported before the first request is read.
    write(source, [*(["junk"] if when != "later" else []), *padded(n)])
    size = len(source.read_bytes().splitlines())
    after_first_result(monkeypatch, lambda: CHANGES[how](source, n))
    ran = batch(source, out)
    assert ran.code == 1, ran.err
    done = [record["custom_id"] for record in read(out)]
    assert len(set(done)) == len(done)
    assert "other0" not in done
    assert "another" not in done
    left = size - len(done)
    lost = f"{left:,} of its {size:,} lines were not run" if left else "what is new in it was not run"
    assert f"{source} changed while it was read: {lost}. Run the same command again" in ran.err
    assert "Traceback" not in ran.err


def test_lines_appended_meanwhile_are_not_run_unjudged(
    batch: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(tmp_path / "in.jsonl", [line(f"r{i}") for i in range(9)]), tmp_path / "out.jsonl"
    with source.open("ab") as file:
        file.truncate(source.stat().st_size - 1)  # the last line has no end: it is the same line with one
    more = "\n" + "".join(json.dumps(line(f"new{i}")) + "\n" for i in range(20))
    after_first_result(monkeypatch, lambda: source.open("a").write(more))
    ran = batch(source, out)
    assert ran.code == 1, ran.err
    assert "9 of 9" in ran.err
    assert "what is new in it was not run. Run the same command again" in ran.err
    assert all(int(done) <= int(total) for done, total in re.findall(r"(\d+) of (\d+)  ", ran.err))
    assert "-1:" not in ran.err
    assert sorted(answers(out)) == [f"r{i}" for i in range(9)]
    assert batch(source, out).code == 0
    assert len(answers(out)) == 29


def test_an_input_that_is_only_touched_has_not_changed(
    batch: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(tmp_path / "in.jsonl", [line("a"), line("b")]), tmp_path / "out.jsonl"
    after_first_result(monkeypatch, lambda: write(source, ["", line("a"), line("b")]))
    ran = batch(source, out)
    assert (ran.code, "changed" in ran.err) == (0, False), ran.err


@pytest.mark.parametrize("pieces", [1, 3, 1 << 20])
def test_lines_in_pieces_are_those_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(batch_reader, "MAX_LINE_BYTES", 10)
    monkeypatch.setattr(batch_reader, "_PIECE", pieces)
    path = tmp_path / "in.jsonl"
    path.write_bytes(
        b"short\n\n" + b" " * 40 + b"\n  x" + b" " * 30 + b"y z" + b" \t" * 9 + b"\n123456789\n"
        b"1234567890\n" + b"\r" * 20 + b"late\n" + b"0" * 40
    )
    whole = [(n, one) for n, one in enumerate(path.open("rb"), 1) if one.strip()]
    with path.open("rb") as file:
        lines = list(read_lines(file))
    assert [(one.number, one.size) for one in lines] == [(n, len(text)) for n, text in whole]
    for one, (_, text) in zip(lines, whole, strict=True):
        assert one.sha256 == hashlib.sha256(text.strip()).hexdigest()
        assert one.too_long == (len(text) > 10)
        assert one.text == text[: 11 if one.too_long else None]


def test_a_line_without_end_is_a_bad_line_and_never_held(
    batch: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20
    monkeypatch.setattr(batch_reader, "MAX_LINE_BYTES", limit)
    source, out = write(tmp_path / "in.jsonl", [line("a")]), tmp_path / "out.jsonl"
    with source.open("r+b") as file:
        file.truncate(100 << 20)
    with source.open("ab") as file:
        file.write(b"\n" + json.dumps(line("b")).encode())
    lines = BatchInput(source)
    tracemalloc.start()
    assert [one.number for one in lines.first()] == [1, 2, 3]
    assert tracemalloc.get_traced_memory()[1] < 8 * limit
    tracemalloc.stop()
    ran = batch(source, out)
    assert ran.code == 1
    assert sorted(answers(out)) == ["a", "b"]
    (error,) = errors(out)
    assert error["line"] == 2
    assert re.match(r"line 2: the line has 104,\d{3},\d{3} bytes, the limit is ", error["message"])
    before = out.read_bytes()
    assert "nothing to do" in batch(source, out).err
    assert out.read_bytes() == before


def test_what_is_no_ordinary_file_is_told_as_that(batch: RunCli, no_engine: None, tmp_path: Path) -> None:
    ran = batch(tmp_path, tmp_path / "out.jsonl")
    assert ran.code == 2
    assert f"{tmp_path} is no ordinary file; IN is read several times" in ran.err
    assert "there is no file" in batch(tmp_path / "missing", tmp_path / "out.jsonl").err


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/stdin")
def test_a_pipe_is_told_as_that(batch_command: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        [*batch_command, "/dev/stdin", str(tmp_path / "out.jsonl")],
        input=json.dumps(line("a")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
    assert "/dev/stdin is no ordinary file" in ran.stderr
