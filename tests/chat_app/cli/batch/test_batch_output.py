"""The result file of `llama-chat batch`: whose it is, what may be torn, a disk that is full."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_lines import answers, by_id, line, read, write

from chat_app.commands.batch_output import BatchOutput, OutputError

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
