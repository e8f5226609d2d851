"""Runs the command on the tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]


@pytest.fixture
def batch(main: RunCli, tiny_model: Path) -> RunCli:
    """Run the command in this process; `model` is another model's file."""

    def run(source: Path, out: Path, *options: str, model: Path = tiny_model) -> Any:
        return main("batch", str(source), str(out), "-m", str(model), "--backend", "numpy", *options)

    return run


@pytest.fixture
def batch_command(tiny_model: Path, llama_chat_home: Path) -> list[str]:
    """The command for a child process, but for IN and OUT."""
    command = [sys.executable, "-m", "chat_app", "batch", "--backend", "numpy", "-m", str(tiny_model)]
    return [*command, "--quiet"]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def load(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("llama_core.engine.load.load_engine", load)
