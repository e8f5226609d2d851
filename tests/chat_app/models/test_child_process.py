"""A child that fetches ends with its parent, whichever signal that gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PARENT = """
import sys
from pathlib import Path
from chat_app.models.download.child_process import run_child
code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
run_child(
    [sys.executable, "-c", code], environment={}, stderr_path=Path(sys.argv[1]),
    on_line=lambda line: print(line, flush=True),
)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_child_too(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "err")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(number)
    assert parent.wait(30) == 128 + number
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
