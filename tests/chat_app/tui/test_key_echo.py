"""How long a key takes to its echo while the default model writes. Run it with -s to see the figures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal"),
    pytest.mark.model,
    pytest.mark.slow,
]
KEYS = 60


@pytest.fixture
def terminal(default_model: Path) -> Iterator[Any]:
    from tests.support.terminal import Terminal

    env = {**os.environ, "TERM": "xterm-256color"}
    argv = [sys.executable, "-m", "chat_app", "-m", str(default_model), "-o", "ignore_eos", "true"]
    found = Terminal(argv, env, (120, 40))
    yield found
    found.close()


def test_key_echo(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each key is a letter that stands nowhere else at the end of the prompt's line."""
    terminal.until(lambda out: b"ready" in out, timeout=120)
    terminal.send("Tell me a very long story.\r")
    terminal.until(lambda out: b"writing" in out)
    terminal.pump(1.0)
    waits: list[float] = []
    for number in range(KEYS):
        key = "⠁⠂⠃⠄⠅⠆⠇⠈⠉⠊"[number % 10]  # no reply holds these
        terminal.pump(0.03)
        start = len(terminal.output)
        began = time.perf_counter()
        terminal.send(key)
        while key.encode() not in terminal.output[start:]:
            terminal.pump(0.001)
            assert time.perf_counter() - began < 20, "the key is never echoed"
        waits.append(time.perf_counter() - began)
    terminal.send("\x1b")
    ordered = sorted(waits)
    p50, p95 = ordered[KEYS // 2], ordered[int(KEYS * 0.95)]
    with capsys.disabled():
        figures = f"p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms"
        print(f"\nkey echo while writing: {figures}, load {os.getloadavg()[0]:.1f}")
