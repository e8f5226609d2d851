"""A process that may use little memory (`ulimit -v`): a reply, or a sentence about memory; nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chat_app.text.errors import describe_error

resource = pytest.importorskip("resource", reason="this system has no such limits")
MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its address space")
@pytest.mark.parametrize(
    ("backend", "limit_mib", "kernels"),
    [
        ("numpy", 120, "none"),
        ("numpy", 180, "none"),
        ("jit", 150, "kept"),
        ("jit", 220, "kept"),
        ("jit", 300, "kept"),
        ("jit", 220, "not built"),
        ("jit", 300, "not built"),
    ],
)
def test_a_one_shot_reply(
    backend: str,
    limit_mib: int,
    kernels: str,
    quick: list[str],
    llama_chat_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kernels == "not built":
        monkeypatch.setenv("LLAMA_CHAT_KERNELS", str(llama_chat_home / "kernels"))
    done = subprocess.run(
        [sys.executable, "-m", "chat_app", *quick, "--backend", backend, "-p", "hello"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_mib * MIB, limit_mib * MIB)),
        check=False,
        timeout=240,
    )
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert done.stdout.strip()
    else:
        assert done.returncode == 1
        assert "memory" in done.stderr.lower()  # OpenBLAS speaks for itself and ends the process
        assert done.stdout == ""


def test_errors_that_mean_memory_are_told_alike() -> None:
    for error in (MemoryError(), OSError(12, "Cannot allocate memory")):
        assert describe_error(error) == "There was not enough memory."
    assert describe_error(OSError(12, "Cannot allocate memory", "a.gguf")).endswith("memory. a.gguf")
    assert "no more threads" in describe_error(RuntimeError("can't start new thread"))
