"""The whole thing as a user has it: the real app in a real terminal with the real model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.chats import stored_messages

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal"),
]

QUESTION = "What is the capital of France?"


def test_the_app_answers_with_the_capital_of_france(tmp_path: Path, default_model: Path) -> None:
    from tests.support.terminal import Terminal

    def complete(_: bytes) -> bool:
        replies = [m for m in stored_messages(tmp_path) if m["role"] == "assistant"]
        return bool(replies) and replies[-1]["x"]["status"] == "complete"

    environment = os.environ | {"LLAMA_CHAT_HOME": str(tmp_path), "TERM": "xterm-256color", "COLORTERM": ""}
    argv = [sys.executable, "-m", "chat_app", "-m", str(default_model), "-o", "temperature", "0"]
    app = Terminal(argv, environment, (120, 36))
    try:
        app.until(lambda out: b"\x1b[?1049h" in out, timeout=120)  # keys are read from here on
        app.send(QUESTION)
        app.until(lambda out: QUESTION.encode() in out)
        app.send("\r")
        # What is on disk may be ahead of the screen, and the screen of the disk.
        app.until(complete, timeout=120)
        app.until(lambda out: b"Paris" in out)
        asked, answered = stored_messages(tmp_path)
        assert (asked["role"], asked["content"]) == ("user", QUESTION)
        assert "Paris" in str(answered["content"])
        app.send("\x11")  # Ctrl+Q
        assert app.wait() == 0
        assert b"\x1b[?1049l" in app.output  # the user's own screen is back
    finally:
        app.close()
