"""What the app's tests share: a model small enough to answer in milliseconds, and ways to run the program."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_core.profiling.lab.experiment import LabContext
from tests.support.chats import stored_messages
from tests.support.tiny_chat import write_tiny_chat


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template, as GGUF."""
    return write_tiny_chat(tmp_path_factory.mktemp("tiny") / "tiny-chat.gguf")


@pytest.fixture
def engine() -> Any:
    from tests.support.fake_engine import FakeEngine

    return FakeEngine()


@pytest.fixture
async def stage(tmp_path: Path, engine: Any) -> AsyncIterator[Any]:
    """A controller with a loaded fake model."""
    from chat_app.config.settings import Settings
    from tests.support.stage import Stage

    found = Stage(tmp_path, engine, Settings())
    await found.load()
    yield found
    engine.gate.set()
    await asyncio.to_thread(found.host.close, 20)
    found.session.chat.close()


@pytest.fixture(scope="module")
def context(tiny_model: Path, kernel_cache: Path) -> Iterator[LabContext]:
    """What the laboratory's experiments may use; models that they made are closed at the end."""
    made = LabContext(model_path=tiny_model, kernel_cache=kernel_cache, budget_s=0.01)
    yield made
    for value in made.cache.values():
        if hasattr(value, "close"):
            value.close()


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a run of the program left behind."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Ran]


@pytest.fixture
def run_cli(llama_chat_home: Path) -> RunCli:
    """Run `llama-chat` as a child process: run_cli("-p", "hi", stdin="...")."""

    def run(*arguments: str, stdin: str | bytes | None = "", timeout: float = 300, **environment: str) -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            command(arguments),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **environment},
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "chat_app", *arguments]


@pytest.fixture
def main(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Run `llama-chat` inside this process, which is quicker: no terminal, and stdin as given."""
    import io

    from chat_app import cli

    def run(*arguments: str, stdin: str | bytes = "") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capfd.readouterr()
        try:
            code = cli.main(list(arguments))
        except SystemExit as error:  # argparse ends the program so
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def quick(tiny_model: Path) -> list[str]:
    """Options for a short greedy reply of the tiny model."""
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1"]
    return [*options, "-o", "temperature", "0", "-o", "num_predict", "12", "-o", "ignore_eos", "true"]


@pytest.fixture
def transcript(llama_chat_home: Path) -> Callable[[], list[dict[str, Any]]]:
    """Every message of every chat on disk, by its time."""
    return lambda: stored_messages(llama_chat_home)
