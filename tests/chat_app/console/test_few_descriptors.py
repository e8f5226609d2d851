"""A process that may open few files (`ulimit -n`): a reply, or a sentence; never a traceback or a hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="this system has no such limits")


@pytest.mark.parametrize(("n_files", "code"), [(4, 1), (8, 1), (64, 0)])
def test_a_one_shot_reply(n_files: int, code: int, quick: list[str], llama_chat_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chat_app", *quick, "-p", "hello"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files)),
        check=False,
        timeout=240,
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert (b"Too many open files" in done.stderr) == (code == 1)
    assert bool(done.stdout.strip()) == (code == 0)
