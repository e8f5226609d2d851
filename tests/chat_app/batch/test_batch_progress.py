"""The progress line of `llama-chat batch`: what it says, and that it stays one line."""

from __future__ import annotations

import errno
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app import cli
from chat_app.batch import progress as batch_progress
from chat_app.batch.progress import BatchProgress, BatchState, progress_text
from tests.support.batch_lines import line, write

STATE = BatchState(
    total=100,
    finished=50,
    failed=2,
    running=16,
    answered=30,
    answered_tokens=3000,
    drawn=1200,
    computed=4000,
    elapsed_s=60.0,
)


class Screen(io.StringIO):
    """A terminal's bottom row, and the rows that were left behind above it."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.rows: list[str] = []
        self.row = ""
        self.at = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for character in text:
            if character == "\n" or (self.at == self.columns and character != "\r"):
                self.rows.append(self.row.rstrip())
                self.row, self.at = "", 0
            if character == "\r":
                self.at = 0
            elif character != "\n":
                self.row = self.row[: self.at] + character + self.row[self.at + 1 :]
                self.at += 1
        return len(text)

    def resize(self, columns: int) -> None:
        self.columns = columns
        self.row, self.at = self.row[:columns], min(self.at, columns)


def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal behind stderr. No fixture: pytest puts its own stderr back before the test's body."""
    made = Screen(90)
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr(batch_progress, "terminal_columns", lambda: made.columns)
    return made


def test_it_names_rate_and_time_left() -> None:
    text = progress_text(STATE)
    assert "50 of 100" in text
    assert "2 failed" in text
    assert "20 tok/s" in text
    assert "16 at once" in text
    assert text.startswith("[############............]")
    # 30 requests took 100 tokens each, so 42 (50, of which 16 half done) take 4200; 4000 took a minute.
    assert text.endswith("ETA 1:03")
    assert "ETA unknown" in progress_text(replace(STATE, answered=0, answered_tokens=0))


def test_lines_that_take_no_time_do_not_change_the_time_left() -> None:
    """Thousands of bad lines and refused requests say nothing about the pace."""
    refused = replace(STATE, total=9100, finished=9050, failed=9002)
    assert refused.eta_s == STATE.eta_s == 63.0
    assert replace(STATE, finished=100).eta_s == 0.0


def test_a_short_reply_that_ends_first_does_not_promise_an_early_end() -> None:
    first = replace(STATE, answered=1, answered_tokens=3, running=15)
    assert first.eta_s == 60.0 * (50 - 7.5) / 16  # 16 were begun in that minute, 250 tokens each


def test_it_fits_every_width() -> None:
    whole = progress_text(STATE)
    words = whole.partition("] ")[2]
    for width in range(1, len(whole) + 20):
        text = progress_text(STATE, width)
        assert len(text) <= width
        assert words in text or text == words[:width]
        assert text == whole or width < len(whole)


def test_it_stays_one_row_while_the_terminal_becomes_narrower_and_wider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    progress = BatchProgress(now=iter(range(1000)).__next__)
    for columns in (90, 60, 59, 30, 12, 40, 100):
        screen.resize(columns)
        progress.show(STATE)
        assert screen.row.rstrip() == progress_text(STATE, columns - 1).rstrip()
    progress.show(replace(STATE, failed=0))
    assert screen.row.rstrip() == progress_text(replace(STATE, failed=0), 99)
    progress.finish(STATE)
    progress.close()
    assert screen.rows == [progress_text(STATE, 99)]


def test_what_ends_a_batch_is_said_below_the_progress(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while the line is shown."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("chat_app.files.durable._write_all", full)
    source, out = write(tmp_path / "in.jsonl", [line(f"r{i}") for i in range(9)]), tmp_path / "out.jsonl"
    screen = terminal(monkeypatch)
    code = cli.main(["batch", str(source), str(out), "-m", str(tiny_model), "--backend", "numpy"])
    assert code == 1
    told = "".join("".join(screen.rows).split())  # a row may end at a space
    assert "cannottakeanotherresult:Nospaceleftondevice" in told
    (progress,) = [row for row in screen.rows if "of 9" in row]
    assert str(out)[:6] not in progress  # the sentence begins with it
