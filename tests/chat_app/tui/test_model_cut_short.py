"""`faults.md` row 24: the model's file is cut short while the app has it open, on a real terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.chats import stored_messages

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")


@pytest.mark.parametrize("left", [0, 4096])
def test_a_sentence_and_a_saved_chat(left: int, tiny_model: Path, llama_chat_home: Path) -> None:
    """No signal ends the app, and with the file whole again the chat goes on."""
    from tests.support.terminal import Terminal

    model = llama_chat_home / "model.gguf"
    shutil.copy(tiny_model, model)
    whole = model.read_bytes()

    def replies() -> list[str]:
        return [m["x"]["status"] for m in stored_messages(llama_chat_home) if m["role"] == "assistant"]

    argv = [sys.executable, "-m", "chat_app", "-m", str(model), "--backend", "jit", "--threads", "1"]
    argv += ["-o", "num_predict", "8", "-o", "seed", "1", "-o", "ignore_eos", "true"]
    app = Terminal(argv, os.environ | {"TERM": "xterm-256color", "COLORTERM": ""}, (120, 36))
    try:
        app.until(lambda out: b"ready" in out, timeout=240)
        app.send("first\r")
        app.until(lambda _: replies() == ["complete"] or replies() == ["length"])
        first = replies()
        os.truncate(model, left)
        app.send("second\r")
        app.until(lambda out: b"cut short" in out)
        app.until(lambda _: len(replies()) == 2 and replies()[1] not in ("streaming", ""))
        assert replies()[1] not in first
        with model.open("r+b") as again:
            again.write(whole)
        app.send("third\r")
        app.until(lambda _: len(replies()) == 3 and replies()[2] == first[0])
        app.send("\x11")  # Ctrl+Q
        assert app.wait() == 0
        assert b"\x1b[?1049l" in app.output  # the user's own screen is back
        assert app.attributes() == app.initial
    finally:
        app.close()
    said = [m["content"] for m in stored_messages(llama_chat_home) if m["role"] == "user"]
    assert said == ["first", "second", "third"]
