"""`-f PATH` and `/file`: what goes with a prompt outside the screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.attachments.attachment import attachments_of
from tests.support.chats import chat_ids, store_of


@pytest.fixture
def run(
    main: Callable[..., Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    (tmp_path / "a.txt").write_text("Once")
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    monkeypatch.chdir(tmp_path)
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1", "-o", "num_predict", "4"]
    return lambda *more, stdin="": main(*options, *more, stdin=stdin)


def attached(home: Path) -> list[list[str]]:
    """The names with each message of the user."""
    store = store_of(home)
    chats = [store.read(chat_id) for chat_id in chat_ids(home)]
    messages = [one for chat in chats for one in chat if one.role == "user"]
    return [[file.name for file in attachments_of(one.x)] for one in messages]


def test_one_shot(run: Callable[..., Any]) -> None:
    plain = json.loads(run("-p", "hi @a.txt", "--output", "json").out)
    ran = run("-p", "hi @a.txt", "-f", "a.txt", "--output", "json")
    assert ran.code == 0
    # More than the mention alone, which a one-shot prompt does not read.
    assert json.loads(ran.out)["timings"]["prompt_n"] > plain["timings"]["prompt_n"] + 5


def test_a_refusal_comes_before_the_model(run: Callable[..., Any]) -> None:
    ran = run("-p", "hi", "-f", "a.txt", "-f", "p.png", "-m", "/nowhere.gguf")
    assert (ran.code, ran.out) == (1, "")
    assert "p.png cannot be attached: it is a PNG picture" in ran.err
    assert run("-p", "hi", "-f", "a.txt", "--raw").code == 2


def test_the_line_chat(run: Callable[..., Any], llama_chat_home: Path) -> None:
    lines = ("/file a.txt", "first", "second", "third @a.txt", "/file p.png", "/file nowhere", "/bye")
    ran = run("--plain", stdin="".join(f"{line}\n" for line in lines))
    assert ran.code == 0
    assert attached(llama_chat_home) == [["a.txt"], [], ["a.txt"]]
    assert "a.txt · " in ran.err
    assert "left" in ran.err
    assert "it is a PNG picture" in ran.err
    assert "There is no file 'nowhere'" in ran.err


def test_the_first_message_of_a_line_chat(run: Callable[..., Any], llama_chat_home: Path) -> None:
    run("--plain", "-f", "a.txt", "hello", stdin="more\n")
    assert attached(llama_chat_home) == [["a.txt"], []]
