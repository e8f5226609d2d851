"""The log file: written where `paths` says, private, and without a word that a user or a model said."""

from __future__ import annotations

import io
import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.cli import main
from chat_app.config.log import MAX_BYTES, PACKAGES, log_to

SECRET = "the user's own words"


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    before = {name: list(logging.getLogger(name).handlers) for name in PACKAGES}
    yield
    for name, handlers in before.items():
        logging.getLogger(name).handlers = handlers


def fail() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise RuntimeError(f"around {SECRET}") from error


def test_places_and_types_but_no_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state" / "llama-chat.log"
    log_to(path)
    assert not path.exists()  # nothing has happened
    try:
        fail()
    except RuntimeError as error:
        logging.getLogger("chat_app.engines.host").error("a job failed", exc_info=error)
    text = path.read_text()
    assert "ERROR chat_app.engines.host" in text
    assert "RuntimeError\n" in text
    assert "ValueError\n" in text
    assert "in fail" in text
    assert SECRET not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert capsys.readouterr().err == ""


def test_words_that_another_handler_has_made_of_an_error_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "llama-chat.log"
    log_to(path)
    package = logging.getLogger("chat_app")
    others = io.StringIO()
    package.handlers.insert(0, logging.StreamHandler(others))
    try:
        fail()
    except RuntimeError as error:
        package.error("a job failed", exc_info=error)
    assert SECRET in others.getvalue()
    assert "RuntimeError\n" in path.read_text()
    assert SECRET not in path.read_text()


def test_a_warning_is_told_on_stderr_without_control_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to(tmp_path / "a.log")
    log_to(tmp_path / "b.log")  # takes the first one's place: told once
    logging.getLogger("llama_core.loaders").warning("a key is \x1b[31mnot known")
    assert capsys.readouterr().err == "a key is [31mnot known\n"
    assert not (tmp_path / "a.log").exists()


def test_a_long_log_is_begun_anew_and_one_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    log_to(path)
    logging.getLogger("chat_app").info("new")
    assert path.stat().st_size < 1000
    assert (tmp_path / "x.log.1").stat().st_size == MAX_BYTES + 1
    (tmp_path / "file").write_text("")
    log_to(tmp_path / "file" / "x.log")
    logging.getLogger("chat_app").info("nowhere")


def test_a_command_that_fails_is_in_the_log_where_paths_says(
    llama_chat_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["-p", SECRET, "-m", str(llama_chat_home / "nothing.gguf")]) == 1
    assert main(["paths"]) == 0
    shown = capsys.readouterr().out
    path = llama_chat_home / "state" / "llama-chat.log"
    assert str(path) in shown
    text = path.read_text()
    assert "ModelNotFound" in text
    assert SECRET not in text
