"""The result file of `llama-chat batch`: whose it is, what may be torn, a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch import reader as batch_reader
from chat_app.batch.output import LINE_START, BatchOutput, OutputError
from tests.support.batch_lines import answers, by_id, line, read, write

RunCli = Callable[..., Any]


def test_other_files_are_left_alone(batch: RunCli, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line("a")])
    for content in ("my notes\n", "my notes without an end", '{"id": "x", "custom_id": "a"}\n'):
        other = tmp_path / "notes.txt"
        other.write_text(content)
        assert batch(source, other).code == 2
        assert other.read_text() == content
    assert batch(source, source).code == 2
    assert batch(tmp_path / "missing.jsonl", tmp_path / "out.jsonl").code == 2


def test_only_one_process_writes_a_file(tmp_path: Path) -> None:
    first = BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    with pytest.raises(OutputError, match="another batch"):
        BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    first.close()
    BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks").close()


def test_a_tail_torn_at_any_byte_is_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    record = {"id": "batch_req_1", "custom_id": "a", "response": {}, "error": None}
    whole = (json.dumps(record) + "\n").encode()
    second = (json.dumps(record | {"custom_id": "b"}) + "\n").encode()
    for cut in range(1, len(second)):
        for tail in (second[:cut], b"\0" * cut):
            out.write_bytes(whole + tail)
            output = BatchOutput(out, tmp_path / "locks")
            assert set(output.results) == {"a"}
            assert output.repaired_bytes == cut
            output.append(record | {"custom_id": "b"})
            output.close()
            assert out.read_bytes() == whole + second


def test_a_place_that_cannot_hold_results_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    for place, words in ((tmp_path, "ordinary file"), (tmp_path / "no" / "out.jsonl", "no folder")):
        with pytest.raises(OutputError, match=words):
            BatchOutput(place, tmp_path / "locks")


def test_half_a_surrogate_pair_leaves_the_results_readable(tmp_path: Path) -> None:
    output = BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    output.append({"id": "batch_req_1", "custom_id": "\ud800cid", "error": None})
    output.close()
    (line,) = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["custom_id"] == "\ud800cid"


def test_a_full_disk_ends_it_with_a_sentence_and_loses_nothing(
    batch_command: list[str], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk; it falls into the middle of a result."""
    resource = pytest.importorskip("resource")  # Windows has none
    source = write(tmp_path / "in.jsonl", ["junk", *(line(f"r{i}") for i in range(12))])
    out = tmp_path / "out.jsonl"
    limit = 3000

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = subprocess.run(
        [*batch_command, str(source), str(out)],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert full.returncode == 1, full.stderr
    assert f"{out} cannot take another result: File too large" in full.stderr
    assert "run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1
    assert 0 < len(read(out)) < 13
    again = subprocess.run([*batch_command, str(source), str(out)], check=False, timeout=120)
    assert again.returncode == 1  # the junk
    assert sorted(answers(out)) == sorted(f"r{i}" for i in range(12))
    assert len(by_id(out)) == 13


def record(name: str) -> dict[str, Any]:
    return {"id": "batch_req_1", "custom_id": name, "response": {}, "error": None}


def replaced(out: Path) -> None:
    shutil.copy(out, out.with_suffix(".copy"))
    with out.with_suffix(".copy").open("ab") as file:
        file.write(b" " * 10 + b"\n")
    os.replace(out.with_suffix(".copy"), out)


OTHERS: dict[str, Callable[[Path], object]] = {
    "removed": lambda out: out.unlink(),
    "replaced": replaced,
    "moved away": lambda out: out.rename(out.with_suffix(".old")),
    "cut": lambda out: os.truncate(out, 10),
    "written to": lambda out: out.open("ab").write(b"{}\n"),
    "its folder removed": lambda out: shutil.rmtree(out.parent),
}


@pytest.mark.parametrize("how", OTHERS)
def test_a_result_is_never_written_to_another_file_than_the_ones_before(tmp_path: Path, how: str) -> None:
    out = tmp_path / "results" / "out.jsonl"
    out.parent.mkdir()
    out.write_bytes(LINE_START)  # torn: what is saved later is without it
    output = BatchOutput(out, tmp_path / "locks")
    output.append(record("a"))
    output.append(record("b"))
    written = out.read_bytes()
    OTHERS[how](out)
    left = out.read_bytes() if out.exists() else None
    with pytest.raises(OutputError, match=r"was removed, replaced or changed .* run the same command again"):
        output.append(record("c"))
    output.close()
    assert (out.read_bytes() if out.exists() else None) == left
    if how in ("removed", "replaced", "moved away"):
        (kept,) = [path for path in out.parent.iterdir() if path != out]
        assert kept.read_bytes() == written


def test_an_output_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    output = BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    (tmp_path / "out.jsonl").write_bytes(b"notes")
    with pytest.raises(OutputError, match="changed by another program"):
        output.append(record("a"))
    output.close()
    assert (tmp_path / "out.jsonl").read_bytes() == b"notes"


def test_an_output_removed_meanwhile_ends_the_run(
    batch: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(tmp_path / "in.jsonl", [line(f"r{i}") for i in range(9)]), tmp_path / "out.jsonl"
    append = BatchOutput.append
    for last in ("r3", "r8"):  # after the last result too

        def appended(self: BatchOutput, record: Any, last: str = last) -> None:
            append(self, record)
            if record["custom_id"] == last:
                out.unlink()

        monkeypatch.setattr(BatchOutput, "append", appended)
        ran = batch(source, out, "--max-batch", "1")
        assert ran.code == 1
        assert "was removed, replaced or changed" in ran.err
        assert "Traceback" not in ran.err
        (saved,) = tmp_path.glob("out.jsonl.*.saved")
        assert str(saved) in ran.err
        assert answers(saved)[-1] == last
        saved.rename(out)
    monkeypatch.setattr(BatchOutput, "append", append)
    assert batch(source, out).code == 0
    assert answers(out) == [f"r{i}" for i in range(9)]


def test_a_line_without_end_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_reader, "MAX_LINE_BYTES", 1000)
    out = tmp_path / "out.jsonl"
    for tail in (b"", b"\n"):
        out.write_bytes(json.dumps(record("a")).encode() + b"\n" + b"\0" * 2000 + tail)
        before = out.read_bytes()
        with pytest.raises(OutputError, match=r"line 2 of .* is no result of a batch"):
            BatchOutput(out, tmp_path / "locks")
        assert out.read_bytes() == before
    out.write_bytes(json.dumps(record("a")).encode() + b"\n\n  ")
    output = BatchOutput(out, tmp_path / "locks")
    output.append(record("b"))
    output.append(record("c"))
    output.close()
    assert set(BatchOutput(out, tmp_path / "locks").results) == {"a", "b", "c"}
