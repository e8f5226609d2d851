"""`--ray`: the same lines on a Ray cluster give the same file, also where a worker is killed.

Skipped without Ray (`uv sync --group cluster`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from chat_app.batch.elsewhere.node_model import PIECE_BYTES, FileSource, SharedModel, model_on_node
from chat_app.batch.identity import model_identity
from chat_app.config.settings import Settings
from chat_app.models.catalogue import ModelNotFound
from chat_app.text.errors import SentenceError
from tests.support.batch_lines import by_id, line, text_of, write

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def texts(path: Path) -> dict[str, str]:
    return {name: text_of(record) for name, record in by_id(path).items()}


@pytest.fixture
def cluster_command(tiny_model: Path, llama_chat_home: Path) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "chat_app",
        "batch",
        "--backend",
        "numpy",
        "-m",
        str(tiny_model),
        "--quiet",
    ]
    return [*command, "--ray", "local", "--cores", "1"]


@needs_ray
@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(
    cluster_command: list[str], batch: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [line(f"r{i}", max_tokens=40 + i % 9, temperature=0.8, seed=i) for i in range(400)]
    source, out, here = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl", tmp_path / "here.jsonl"
    child = subprocess.Popen(
        [*cluster_command, str(source), str(out)], env=dict(os.environ), stderr=subprocess.PIPE
    )
    killed = ""
    deadline = time.monotonic() + 240
    while child.poll() is None and not killed and time.monotonic() < deadline:
        if out.exists() and out.read_bytes().count(b"\n") > 20:
            killed = kill_a_worker(child.pid)
        time.sleep(0.05)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 0, err.decode()
    assert b"2 engines of 1 core each" in err
    assert killed
    assert batch(source, here).code == 0
    there, local = texts(out), texts(here)
    assert there.keys() == local.keys()
    # NumPy's products of other shapes round differently, which now and then draws another token.
    assert sum(there[name] == local[name] for name in local) >= 0.98 * len(lines)
    assert {record["x"]["model_sha256"] for record in by_id(out).values()} == {
        record["x"]["model_sha256"] for record in by_id(here).values()
    }


def kill_a_worker(pid: int) -> str:
    """End one process of the cluster that runs an engine; its name, "" where none is found."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            name = " ".join(process.cmdline())
            if "MapBatches" in name:
                process.kill()
                return name
    return ""


def test_a_cluster_that_is_not_there(main: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line("a")])
    ran = main(
        "batch", str(source), str(tmp_path / "out.jsonl"), "-m", str(tiny_model), "--ray", "127.0.0.1:1"
    )
    assert ran.code == 1
    assert "There is no Ray cluster at 127.0.0.1:1" in ran.err


class Remote:
    """A `FileSource` as an actor's handle gives it."""

    def __init__(self, path: Path) -> None:
        self.source, self.asked = FileSource(path), 0
        self.read = self

    def remote(self, offset: int) -> bytes:
        self.asked += 1
        return self.source.read(offset)


def test_a_node_finds_the_model_by_its_hash_or_fetches_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    settings = Settings(model=str(tiny_model))
    shared = SharedModel.of(tiny_model, settings, model_identity(str(tiny_model)))
    source = Remote(tiny_model)
    assert model_on_node(shared, settings, source) == tiny_model
    assert source.asked == 0
    elsewhere = SharedModel(
        shared.name, tmp_path / "gone.gguf", shared.identity, shared.nbytes, shared.sha256
    )
    nowhere = Settings(model="no-such-model")
    fetched = model_on_node(elsewhere, nowhere, source)
    assert fetched.read_bytes() == tiny_model.read_bytes()
    assert source.asked == -(-shared.nbytes // PIECE_BYTES)
    assert model_on_node(elsewhere, nowhere, source) == fetched
    assert source.asked == -(-shared.nbytes // PIECE_BYTES)  # it is there now
    fetched.write_bytes(b"another")
    changed = Remote(write_bytes(tmp_path / "other.gguf", b"x" * shared.nbytes))
    with pytest.raises(SentenceError, match="changed while it was fetched"):
        model_on_node(elsewhere, nowhere, changed)
    assert not list(fetched.parent.glob("*.part"))
    folder = SharedModel(shared.name, tmp_path / "gone", shared.identity)
    with pytest.raises(SentenceError, match="is not on the node"):
        model_on_node(folder, nowhere, source)
    with pytest.raises(ModelNotFound):
        model_identity("no-such-model")


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
