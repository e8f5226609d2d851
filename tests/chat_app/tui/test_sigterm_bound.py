"""faults.md row 20: SIGTERM leaves within two seconds, also while the terminal reads nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
BOUND_S = 2.0
MARGIN_S = 3.0  # other programs run beside a test


@pytest.mark.parametrize("reading", [True, False])
def test_sigterm_leaves_in_time(tmp_path: Path, llama_chat_home: Path, reading: bool) -> None:
    from tests.support.terminal import Terminal

    model, script = tmp_path / "tiny.gguf", tmp_path / "reply.txt"
    model.write_bytes(b"GGUF")
    script.write_text("word ")
    argv = [sys.executable, "-m", "tests.support.fake_app", str(model), str(script), "--endless", "--slow"]
    terminal = Terminal(argv, {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
    try:
        terminal.until(lambda out: b"ready" in out)
        terminal.send("go\r")
        terminal.until(lambda out: b"word word" in out)
        if not reading:
            time.sleep(3)  # the pipe to the terminal fills, and the app waits for it
        begun = time.monotonic()
        terminal.signal(signal.SIGTERM)
        code = terminal.wait() if reading else terminal.wait_unread()
        assert time.monotonic() - begun < BOUND_S + MARGIN_S
        assert code == 128 + signal.SIGTERM
    finally:
        terminal.close()
