"""The whole thing as a user has it: the real app in a real terminal with the real model."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

HANG_S = 120.0


class TerminalApp:
    """`llama-chat` on a pseudo-terminal of 120 by 36, in a home of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.output = b""
        self.status: int | None = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = os.environ | {
                "LLAMA_CHAT_HOME": str(home),
                "TERM": "xterm-256color",
                "COLORTERM": "",
            }
            command = [sys.executable, "-m", "chat_app", *arguments]
            os.execve(sys.executable, command, environment)
        import fcntl

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))

    def read(self, seconds: float) -> None:
        """Drain what the app draws; a terminal that does not read would stall it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.fd], [], [], left)
            if not ready:
                return
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # Linux reports a closed terminal so
                data = b""
            if not data:
                self.wait()
                return
            self.output += data

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> None:
        if self.status is None:
            _, raw = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(raw)

    def kill(self) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.fd)


def stored_messages(home: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in home.glob("data/chats/*/messages.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def test_the_app_answers_with_the_capital_of_france(tmp_path: Path, default_model: Path) -> None:
    app = TerminalApp(tmp_path, "-m", str(default_model), "-o", "temperature", "0")
    try:
        end = time.monotonic() + HANG_S
        app.read(2.0)
        app.send("What is the capital of France?")
        app.read(0.5)
        app.send("\r")
        replies: list[dict[str, object]] = []
        while time.monotonic() < end and app.status is None:
            app.read(0.2)
            replies = [m for m in stored_messages(tmp_path) if m["role"] == "assistant"]
            if replies and replies[-1]["x"]["status"] == "complete":  # type: ignore[index]
                break
        assert replies, app.output[-2000:]
        assert "Paris" in str(replies[-1]["content"])
        assert [m["content"] for m in stored_messages(tmp_path) if m["role"] == "user"] == [
            "What is the capital of France?"
        ]
        app.send("\x11")  # Ctrl+Q
        while time.monotonic() < end and app.status is None:
            app.read(0.2)
        assert app.status == 0
        assert b"Paris" in app.output
        assert b"\x1b[?1049l" in app.output  # the user's own screen is back
    finally:
        app.kill()
