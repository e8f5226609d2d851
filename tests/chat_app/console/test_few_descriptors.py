"""A process that may open few files (`ulimit -n`): a reply, or a sentence; never a traceback or a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_app.files.open_files import NEEDED, require_open_files
from chat_app.text.errors import SentenceError

resource = pytest.importorskip("resource", reason="this system has no such limits")


def run(words: list[str], before: Callable[[], object]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "chat_app", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=before,
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize(
    ("n_files", "command"), [(4, "-p hello"), (5, "batch in out"), (12, "chats list"), (24, "-p hello")]
)
def test_too_few_are_told_at_the_start(n_files: int, command: str, llama_chat_home: Path) -> None:
    done = run(command.split(), lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files)))
    (line,) = done.stderr.decode().splitlines()
    assert line == (
        f"llama-chat: Too many open files: this process needs room for {NEEDED} more. "
        f"It may open {n_files} at once (`ulimit -n`)."
    )
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("backend", ["numpy", "jit"])
def test_with_no_more_than_that_a_reply_comes_and_is_saved(
    backend: str, quick: list[str], llama_chat_home: Path
) -> None:
    n_files = NEEDED + 3
    words = [*quick, "--backend", backend, "-p", "hello"]
    done = run(words, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files)))
    assert done.returncode == 0, done.stderr
    assert b"not saved" not in done.stderr
    assert done.stdout.strip()


def test_a_low_soft_limit_is_raised(quick: list[str], llama_chat_home: Path) -> None:
    done = run([*quick, "-p", "hello"], lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (6, 256)))
    assert done.returncode == 0, done.stderr


def test_files_that_are_open_already_count() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened[0] + 40, limit[1]))
        require_open_files(30)
        with pytest.raises(SentenceError, match="needs room for"):
            require_open_files(limit[1] + 1)
    finally:
        os.close(opened[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
