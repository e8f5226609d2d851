from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import chat_ids, store_of


@pytest.fixture
def plain(main: Callable[..., Any], tiny_model: Path) -> Callable[..., Any]:
    options = ["--plain", "-m", str(tiny_model), "--backend", "numpy", "--threads", "1"]
    options += ["-o", "temperature", "0", "-o", "num_predict", "6", "-o", "ignore_eos", "true"]
    return lambda *lines, extra=(): main(*options, *extra, stdin="".join(f"{line}\n" for line in lines))


def users(home: Path) -> list[list[str]]:
    store = store_of(home)
    chats = [store.read(chat_id) for chat_id in chat_ids(home)]
    return [[message.content for message in chat if message.role == "user"] for chat in chats]


def test_lines_are_answered_and_saved(plain: Callable[..., Any], llama_chat_home: Path) -> None:
    ran = plain("one", "", "two", "/bye", "never")
    assert ran.code == 0
    assert ran.out.count("\n") >= 2
    assert "num_predict" in ran.err
    assert users(llama_chat_home) == [["one", "two"]]


def test_several_lines(plain: Callable[..., Any], llama_chat_home: Path) -> None:
    plain('"""first', "second", 'third"""', '"""one line"""', '"""', "open end")
    assert users(llama_chat_home) == [["first\nsecond\nthird", "one line", "open end"]]


def test_commands(plain: Callable[..., Any], llama_chat_home: Path) -> None:
    ran = plain(
        "/help",
        "one",
        "/show info",
        "/reset",
        "/show info",
        "/set parameter temperature 0.5",
        "/set parameter num_ctx 5",
        "/set parameter tempp 1",
        "/set system Be brief.",
        "/show system",
        "/show parameters",
        "/clear",
        "two",
        "/regen",
        "/branch abc",
        "/theme",
        "/hlep",
    )
    assert ran.code == 0
    assert "/set NAME VALUE" in ran.err
    assert "/theme" not in ran.err.split("num_ctx")[0]  # what needs a screen is not offered
    assert re.search(r"KV cache +0 of", ran.err)
    assert "temperature is 0.5" in ran.err
    assert "num_ctx is fixed" in ran.err
    assert "There is no parameter 'tempp'" in ran.err
    assert "Be brief." in ran.err
    assert "Did you mean /help?" in ran.err
    assert "no number from 1 up" in ran.err
    assert "/theme needs the screen" in ran.err
    assert sorted(users(llama_chat_home)) == [["one"], ["two"]]


def test_reset_empties_the_cache(plain: Callable[..., Any]) -> None:
    ran = plain("one", "/show info", "/reset", "/show info", extra=("--ctx-size", "64"))
    before, after = (
        line.split("KV cache ")[1].split(" of")[0].strip()
        for line in ran.err.splitlines()
        if "KV cache " in line and " of " in line
    )
    assert before != "0"  # the toy model keeps few bytes
    assert after == "0"


def test_a_prompt_too_long_is_told_and_the_chat_goes_on(
    plain: Callable[..., Any], llama_chat_home: Path
) -> None:
    ran = plain("x" * 200, "one", extra=("--ctx-size", "64"))
    assert ran.code == 0
    assert "the context holds 64" in ran.err
    assert users(llama_chat_home) == [["one"]]


def test_old_turns_are_left_out_loudly(plain: Callable[..., Any], llama_chat_home: Path) -> None:
    ran = plain("x" * 60, "y" * 60, extra=("--ctx-size", "128"))
    assert "oldest messages were left out" in ran.err
    assert users(llama_chat_home) == [["x" * 60, "y" * 60]]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_dumb_terminal_gets_lines(tiny_model: Path, llama_chat_home: Path) -> None:
    import pty

    from tests.support.terminal import read_to_end

    options = [
        "-m",
        str(tiny_model),
        "--backend",
        "numpy",
        "-o",
        "num_predict",
        "5",
        "-o",
        "ignore_eos",
        "true",
    ]
    main_end, other_end = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "chat_app", *options],
        stdin=other_end,
        stdout=other_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(other_end)
    os.write(main_end, b"hello\n/bye\n")
    shown = read_to_end(main_end)
    _, error = child.communicate(timeout=300)
    assert child.returncode == 0, error
    assert b"\x1b[?1049h" not in shown  # no full screen
    assert b">>> " in shown
    assert users(llama_chat_home) == [["hello"]]


def test_one_shot_runs_are_chats_apart(
    plain: Callable[..., Any], main: Callable[..., Any], tiny_model: Path, llama_chat_home: Path
) -> None:
    """They fill no history and are not what -c goes on with; another one-shot run may."""
    quick = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1", "-o", "num_predict", "3"]
    plain("talked")
    assert main("-p", "asked", *quick).code == 0
    plain("more", extra=("-c",))
    assert sorted(users(llama_chat_home)) == [["asked"], ["talked", "more"]]
    assert [chat.message_count for chat in store_of(llama_chat_home).list()] == [4]
    assert main("-c", "-p", "asked on", *quick).code == 0
    assert sorted(users(llama_chat_home)) == [["asked"], ["talked", "more", "asked on"]]


def test_a_chat_goes_on_with_its_model_and_parameters(
    plain: Callable[..., Any], main: Callable[..., Any], llama_chat_home: Path, tiny_model: Path
) -> None:
    plain("one", "/set parameter top_k 7", "/set system Be brief.", "two")
    said = main("--plain", "-c", "--threads", "1", stdin="/show parameters\n/show system\n/bye\n").err
    assert tiny_model.name in said
    assert "Be brief." in said
    assert [line.split(None, 2)[1:] for line in said.splitlines() if line.startswith("top_k")] == [
        ["7", "of this chat"]
    ]
    given = ("-c", "-o", "top_k", "9", "-m", str(tiny_model))
    said = main("--plain", *given, "--threads", "1", stdin="/show parameters\n").err
    assert [line.split()[1] for line in said.splitlines() if line.startswith("top_k")] == ["9"]


def test_two_answers_are_printed_one_after_the_other(
    plain: Callable[..., Any], tiny_model: Path, tmp_path: Path, llama_chat_home: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_model.read_bytes()[:-4000])
    typed = ("/compare temperature 1.5 seed 3", "/keep 2", "/keep 9", "/compare nowhere")
    ran = plain("one", *typed, f"/compare {broken}")
    assert ran.code == 0
    assert "1  as it is now · tiny-chat" in ran.err
    assert "2  temperature 1.5, seed 3 · tiny-chat" in ran.err
    assert "They part" in ran.err
    assert "A comparison has two answers" in ran.err
    assert "neither a file nor a known model" in ran.err
    assert "/keep 1 or /keep 2 keeps one as the branch." in ran.err
    assert ran.err.splitlines()[-1] == "/keep 1 keeps it as the branch.", "the other could not be loaded"
    assert "" not in ran.err.splitlines()
    (chat_id,) = chat_ids(llama_chat_home)
    conversation = store_of(llama_chat_home).read(chat_id)
    assert conversation.path()[-1].x["guest"] == "temperature 1.5, seed 3"
    assert conversation.path()[-1].content in ran.out


def test_another_model_makes_another_reply(
    plain: Callable[..., Any], tiny_model: Path, tmp_path: Path, llama_chat_home: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_model.read_bytes())
    ran = plain("one", f"/retry {other} once", f"/retry {other}", "two", f"/compare model {tiny_model}")
    assert ran.code == 0
    (chat_id,) = chat_ids(llama_chat_home)
    conversation = store_of(llama_chat_home).read(chat_id)
    models = [one.x["model"] for one in conversation if one.role == "assistant"]
    assert models == ["tiny-chat", "other", "other", "other"]
    assert "The chat goes on with other.gguf" in ran.err
    assert "2  model" in ran.err
    assert "Both say the same." in ran.err


def test_a_model_that_is_damaged_leaves_the_chat_with_its_own(
    plain: Callable[..., Any], tiny_model: Path, tmp_path: Path, llama_chat_home: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_model.read_bytes()[:-4000])
    ran = plain("one", f"/retry {broken}", "two")
    assert f"{tiny_model.name} is loaded again." in ran.err
    assert users(llama_chat_home) == [["one", "two"]]
