"""The terminal is closed under what runs without the screen: what there is so far is kept, and it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.batch_lines import line, read, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
ENDS = (1, 129)  # writing to it failed first, or SIGHUP came first


@pytest.fixture
def start(llama_chat_home: Path) -> Iterator[Callable[..., Any]]:
    """`start("-p", "hi", ...)` runs the program in a terminal."""
    from tests.support.terminal import Terminal

    running: list[Terminal] = []

    def begin(*words: str) -> Terminal:
        environment = {**os.environ, "TERM": "xterm-256color"}
        running.append(Terminal([sys.executable, "-m", "chat_app", *words], environment))
        return running[-1]

    yield begin
    for terminal in running:
        terminal.close()


def test_a_reply_is_saved_as_stopped(
    start: Callable[..., Any], quick: list[str], transcript: Callable[[], list[dict[str, Any]]]
) -> None:
    # As JSON the reply is longer than a terminal holds unread: it is at work when its terminal goes.
    words = ("-p", "hello", "-o", "num_predict", "-1", "--output", "stream-json")
    terminal = start(*quick, *words)
    terminal.until(lambda out: out.count(b'{"') > 5)
    terminal.hang_up()
    assert terminal.wait_unread() in ENDS
    question, reply = transcript()
    assert question["content"] == "hello"
    assert (reply["x"]["status"], bool(reply["content"])) == ("stopped", True)


def test_a_batchs_lines_stay_whole(start: Callable[..., Any], quick: list[str], tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line(f"r{i}", max_tokens=400) for i in range(200)])
    out = tmp_path / "out.jsonl"
    terminal = start("batch", *quick[:6], "--max-batch", "2", str(source), str(out))
    terminal.until(lambda _: out.exists() and out.stat().st_size > 0)
    terminal.hang_up()
    assert terminal.wait_unread() in ENDS
    data = out.read_bytes()
    assert data.endswith(b"\n")
    assert 0 < len(read(out)) < 200
