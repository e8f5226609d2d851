"""How a one-shot run ends: exit codes, faults, closed pipes, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PIPE_BYTES = 4096


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-p", ""], 2, "there is no prompt"),
        (["-p", "hi", "-o", "temprature", "0"], 2, "Did you mean temperature?"),
        (["-p", "hi", "-o", "top_p", "7"], 2, "expected 0 (the likeliest token) to 1"),
        (["-p", "hi", "--seed", "x"], 2, "no whole number"),
        (["-p", "hi", "--threads", "0"], 2, "between 1 and"),
        (["-p", "hi", "--no-such-flag"], 2, "--no-such-flag"),
        (["-p", "hi", "--logits", "3"], 2, "needs --output json"),
        (["-p", "hi", "-c", "--resume", "x"], 2, "two chats"),
        (["-p", "hi", "--resume", "nothing"], 1, "nothing"),
        (["-p", "hi", "-m", "smolm2"], 1, "Did you mean smollm2"),
        (["-p", "hi", "-m", "/no/such/file.gguf"], 1, "neither a file nor a known model"),
        (["models"], 2, "COMMAND"),
        (["tokenize"], 2, "TEXT"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, words: str, main: Callable[..., Any]) -> None:
    ran = main(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_a_full_context_is_said_before_and_after(main: Callable[..., Any], quick: list[str]) -> None:
    ran = main("-p", "hi", *quick, "--ctx-size", "60", "-o", "num_predict", "400")
    assert ran.code == 0, ran.err
    assert "The context has room for a reply of" in ran.err
    assert "(stopped: the context is full" in ran.err
    assert "context" not in ran.out


def test_a_context_beyond_the_models_is_said(main: Callable[..., Any], quick: list[str]) -> None:
    ran = main("-p", "hi", *quick, "--ctx-size", "100000")
    assert ran.code == 0, ran.err
    assert "The context is 512 tokens, the model's own limit, not 100,000." in ran.err


def test_a_damaged_file_is_a_sentence(main: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "bad\x1b[31m.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    ran = main("-p", "hi", "-m", str(path))
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err


def test_no_model_and_no_network(
    main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, llama_chat_home: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(llama_chat_home))
    monkeypatch.setenv("PIP_RETRIES", "1")
    ran = main("-p", "hi")
    assert ran.code == 1
    assert "llama-chat models pull smollm2-135m" in ran.err
    assert "llama-chat -m FILE" in ran.err
    assert ran.out == ""


def test_a_closed_pipe_is_quiet_and_the_reply_is_kept(
    quick: list[str], tiny_model: Path, transcript: Callable[[], list[dict[str, Any]]]
) -> None:
    arguments = [sys.executable, "-m", "chat_app", "-p", "hi", *quick, "-o", "num_predict", "400"]
    # More than the pipe holds: it is not done before its reader leaves, however late that is.
    child = subprocess.Popen(
        [*arguments, "--output", "stream-json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=PIPE_BYTES,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(1)
    child.stdout.close()
    error = child.stderr.read()
    assert child.wait(300) == 0
    assert error == b""
    last = transcript()[-1]
    assert last["role"] == "assistant"
    assert last["x"]["status"] == "stopped"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_and_keeps_the_reply(
    number: signal.Signals, code: int, quick: list[str], transcript: Callable[[], list[dict[str, Any]]]
) -> None:
    arguments = [sys.executable, "-m", "chat_app", "-p", "hi", *quick, "-o", "num_predict", "-1"]
    child = subprocess.Popen(
        [*arguments, "--ctx-size", "100000", "--output", "stream-json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=PIPE_BYTES,  # full before it is done: the signal finds it at work, however late that comes
    )
    assert child.stdout is not None
    for _ in range(10):
        child.stdout.readline()
    child.send_signal(number)
    out, error = child.communicate(timeout=300)
    assert child.returncode == code, error
    assert "Traceback" not in error
    result = json.loads(out.splitlines()[-1])
    assert result["finish_reason"] == "cancelled"
    last = transcript()[-1]
    assert last["x"]["status"] == "stopped"
    assert last["content"] == result["text"]


def test_ctrl_c_while_loading_exits_130() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "chat_app"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job, as a test run may be, starts its children deaf to Ctrl+C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdin is not None
    child.stdin.write(b"x" * (128 << 10))  # twice what a pipe holds: it is reading by now
    child.stdin.flush()
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=300)
    assert child.returncode in (130, -signal.SIGINT)
    assert child.returncode == -signal.SIGINT or b"Traceback" not in error
