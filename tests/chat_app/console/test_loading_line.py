"""The line that a start without a screen shows on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from chat_app.console.engine_start import _reporter
from chat_app.console.streams import ProgressLine
from llama_core.events import LoadProgress

FIRST_LOAD = (
    LoadProgress("weights", 46 << 20, 92 << 20),
    LoadProgress("kernels", 0, 1),
    LoadProgress("kernels", 1, 1),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_kernels_that_are_compiled_are_not_counted_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    line = ProgressLine("loading")
    report = _reporter(line)
    for progress in FIRST_LOAD:
        report(progress)
    line.close()
    drawn = [text.strip() for text in screen.getvalue().split("\r") if text.strip()]
    assert drawn == [
        "loading [############............]  50% 46 of 92 MiB",
        "compiling kernels (first start only) ...",
    ]


def test_what_there_is_to_say_of_a_load_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    report = _reporter(ProgressLine("loading"))
    for done in (0, 1):
        report(LoadProgress("kernels", done, 1, "Kernels are built anew."))
    assert screen.getvalue().count("Kernels are built anew.\n") == 1


def test_where_nothing_can_be_drawn_over_kernels_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    line = ProgressLine("loading")
    report = _reporter(line)
    for progress in FIRST_LOAD:
        report(progress)
    line.close()
    assert log.getvalue() == "compiling kernels (first start only) ...\n"
