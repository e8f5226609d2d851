"""`llama-chat batch` killed or interrupted: every line answered once, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch.output import BatchOutput
from llama_core.errors import TemplateError
from tests.support.batch_lines import answers, by_id, errors, line, read, text_of, write
from tests.support.luck import SEED


def test_killed_again_and_again_nothing_is_lost_or_repeated(batch_command: list[str], tmp_path: Path) -> None:
    """SIGKILL at moments that nobody chose, until the batch is done; a line is corrected on the way."""
    n = 24
    lines = [line(f"r{i}", max_tokens=20 + i % 7, temperature=0.8, seed=i) for i in range(n)]
    faulty = [*lines[:9], lines[9] | {"method": "GET"}, "junk", *lines[10:], "junk"]
    corrected = ["", *lines[:10], "junk", *lines[10:], "junk"]
    source = write(tmp_path / "in.jsonl", faulty)
    out, reference = tmp_path / "out.jsonl", tmp_path / "reference.jsonl"
    command = [*batch_command, "--max-batch", "3"]
    chance = random.Random(SEED)
    kills = 0
    for _ in range(60):
        child = subprocess.Popen([*command, str(source), str(out)], env=dict(os.environ))
        # Wait for some lines more than there were, then strike.
        target = (len(out.read_bytes().splitlines()) if out.exists() else 0) + chance.randint(1, 6)
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.read_bytes().count(b"\n") >= target:
                time.sleep(chance.random() * 0.01)
                child.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        if child.wait(timeout=60) == 1:  # the junk has failed, all else is done
            break
        if kills == 2:
            write(source, corrected)
    assert kills >= 3, f"seed {SEED}"
    assert sorted(answers(out)) == sorted(f"r{i}" for i in range(n)), f"seed {SEED}"
    assert len(errors(out)) == 3, f"seed {SEED}"
    write(source, lines)
    assert subprocess.run([*command, str(source), str(out)], check=False, timeout=120).returncode == 0
    assert subprocess.run([*command, str(source), str(reference)], check=False, timeout=120).returncode == 0
    assert texts(out) == texts(reference), f"seed {SEED}"


def texts(path: Path) -> dict[str, str]:
    return {record["custom_id"]: text_of(record) for record in read(path) if record["error"] is None}


def test_interrupted_politely_it_says_how_to_go_on(batch_command: list[str], tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line(f"r{i}", max_tokens=400) for i in range(200)])
    out = tmp_path / "out.jsonl"
    child = subprocess.Popen(
        [*batch_command, "--max-batch", "2", str(source), str(out)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"run the same command again" in err
    done = by_id(out)
    assert 0 < len(done) < 200


def interrupt_after_a_result(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Ctrl+C as soon as a result is written; returns what writes one without."""
    append = BatchOutput.append

    def interrupted(self: BatchOutput, record: Mapping[str, Any]) -> None:
        append(self, record)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BatchOutput, "append", interrupted)
    return append


def test_ctrl_c_waits_for_no_reply_under_way(
    batch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = interrupt_after_a_result(monkeypatch)
    lines = [line("short", max_tokens=2), *(line(f"r{i}", max_tokens=100) for i in range(3))]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    assert batch(source, out).code == 130
    assert answers(out) == ["short"]
    monkeypatch.setattr(BatchOutput, "append", append)
    assert batch(source, out).code == 0
    assert sorted(answers(out)) == ["r0", "r1", "r2", "short"]


def test_ctrl_c_counts_between_refused_requests(
    batch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> list[int]:
        raise TemplateError("No chat is good enough.")

    monkeypatch.setattr("llama_core.engine.text.TextEngine.encode_chat", refuse)
    interrupt_after_a_result(monkeypatch)
    source, out = write(tmp_path / "in.jsonl", [line(f"r{i}") for i in range(9)]), tmp_path / "out.jsonl"
    assert batch(source, out).code == 130
    assert len(errors(out)) == 1
