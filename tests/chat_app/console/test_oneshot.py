from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import chat_ids, store_of

KEYS = ["model", "prompt_ids", "ids", "text", "finish_reason", "timings", "backend", "seed"]
TIMINGS = {
    "cache_n",
    "prompt_n",
    "prompt_ms",
    "prompt_per_second",
    "predicted_n",
    "predicted_ms",
    "predicted_per_second",
    "ttft_ms",
    "draft_n",
    "draft_n_accepted",
}


def test_json_has_the_promised_shape(main: Callable[..., Any], quick: list[str], tiny_model: Path) -> None:
    ran = main("-p", "hi", "--output", "json", "--logits", "5", *quick)
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert list(result) == [*KEYS, "logits"]
    assert result["model"] == tiny_model.name
    assert set(result["timings"]) == TIMINGS
    assert len(result["ids"]) == 12
    assert result["finish_reason"] == "length"
    assert result["timings"]["predicted_n"] == 12
    assert result["timings"]["prompt_n"] == len(result["prompt_ids"])
    assert result["prompt_ids"][0] == 1  # <|im_start|>
    logits = result["logits"]
    assert [set(row) for row in logits] == [{"id", "logit"}] * 5
    assert [row["logit"] for row in logits] == sorted((row["logit"] for row in logits), reverse=True)
    assert logits[0]["id"] == result["ids"][0]


def test_text_goes_to_stdout_and_timings_to_stderr(main: Callable[..., Any], quick: list[str]) -> None:
    result = json.loads(main("-p", "hi", "--output", "json", *quick).out)
    ran = main("-p", "hi", "--verbose", *quick)
    text = result["text"]
    assert ran.out == (text if text.endswith("\n") else text + "\n")
    for name in (
        "total duration",
        "load duration",
        "prompt eval count",
        "prompt eval rate",
        "eval count",
        "eval rate",
    ):
        assert re.search(rf"^{name}: +\S", ran.err, re.MULTILINE), ran.err
    assert "eval count:           12 token(s)" in ran.err
    assert main("-p", "hi", *quick).err == "(stopped at num_predict)\n"


def test_stream_json_ends_with_the_result(main: Callable[..., Any], quick: list[str]) -> None:
    lines = [
        json.loads(line) for line in main("-p", "hi", "--output", "stream-json", *quick).out.splitlines()
    ]
    result = lines[-1]
    assert list(result) == KEYS
    tokens = [line for line in lines if line.get("type") == "token"]
    assert [line["id"] for line in tokens] == result["ids"]
    assert [line["index"] for line in tokens] == list(range(12))
    assert "".join(line["text"] for line in lines if line.get("type") == "text") == result["text"]
    assert lines[0]["type"] == "prefill"


def test_the_same_seed_gives_the_same_reply(main: Callable[..., Any], quick: list[str]) -> None:
    options = [*quick, "-o", "temperature", "1.5", "--output", "json", "-p", "hi", "--seed"]
    first, again, other = (json.loads(main(*options, seed).out) for seed in ("1", "1", "2"))
    assert first["seed"] == 1
    assert first["ids"] == again["ids"] != other["ids"]


def test_raw_parses_special_tokens_and_saves_nothing(
    main: Callable[..., Any], quick: list[str], transcript: Callable[[], list[dict[str, Any]]]
) -> None:
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    raw = json.loads(main("--raw", "-p", prompt, "--output", "json", *quick).out)
    assert transcript() == []
    chat = json.loads(main("-p", "hi", "--output", "json", *quick).out)
    assert raw["prompt_ids"] == chat["prompt_ids"]
    assert raw["ids"] == chat["ids"]


def test_a_users_special_tokens_stay_text(main: Callable[..., Any], quick: list[str]) -> None:
    result = json.loads(main("-p", "<|im_end|>", "--output", "json", *quick).out)
    assert result["prompt_ids"].count(2) == 1  # the template's own


def test_stdin_is_appended(
    main: Callable[..., Any], quick: list[str], transcript: Callable[[], list[dict[str, Any]]]
) -> None:
    main("-p", "Sum up:", *quick, stdin="line one\nline two\n")
    main(*quick, stdin="only this\n")
    main("bare", "words", *quick)
    contents = [m["content"] for m in transcript() if m["role"] == "user"]
    assert contents == ["Sum up:\n\nline one\nline two", "only this", "bare words"]


def test_stop_strings_and_limits(main: Callable[..., Any], quick: list[str]) -> None:
    text = json.loads(main("-p", "hi", "--output", "json", *quick).out)["text"]
    stop = text[2:4]
    result = json.loads(main("-p", "hi", "--output", "json", *quick, "-o", "stop", json.dumps(stop)).out)
    assert result["finish_reason"] == "stop"
    assert result["text"] == text[: text.index(stop)]


def test_the_transcript_and_continue(
    main: Callable[..., Any],
    quick: list[str],
    llama_chat_home: Path,
    transcript: Callable[[], list[dict[str, Any]]],
) -> None:
    first = json.loads(main("-p", "one", "--output", "json", *quick).out)
    second = json.loads(main("-c", "-p", "two", "--output", "json", *quick).out)
    assert second["prompt_ids"][: len(first["prompt_ids"])] == first["prompt_ids"]
    messages = transcript()
    final = {m["x"]["id"]: m for m in messages}
    assert [m["content"] for m in final.values()] == ["one", first["text"], "two", second["text"]]
    reply = final[messages[-1]["x"]["id"]]["x"]
    assert reply["ids"] == second["ids"]
    assert reply["timings"]["predicted_n"] == 12
    (chat_id,) = chat_ids(llama_chat_home)
    third = json.loads(main("--resume", chat_id, "-p", "three", "--output", "json", *quick).out)
    assert third["prompt_ids"][: len(second["prompt_ids"])] == second["prompt_ids"]


def test_no_save(main: Callable[..., Any], quick: list[str], llama_chat_home: Path) -> None:
    assert main("-p", "one", "--no-save", *quick).code == 0
    assert not (llama_chat_home / "data").exists()


@pytest.mark.parametrize("text", ["-s is a flag", "-o of what?\nAnd --seed?", "--output is an option"])
def test_a_prompt_may_begin_with_a_dash(
    main: Callable[..., Any],
    quick: list[str],
    text: str,
    transcript: Callable[[], list[dict[str, Any]]],
) -> None:
    for prompt in (["-p", text], ["--print", text], [f"--print={text}"]):
        ran = main(*quick, *prompt)
        assert ran.code == 0, ran.err
        assert [m["content"] for m in transcript() if m["role"] == "user"][-1] == text
    assert main("-p", "--verbose", *quick, stdin="hi").code == 0  # an option stays one


@pytest.mark.parametrize(("codec", "name"), [("latin-1", "Windows-1252"), ("utf-16", "UTF-16")])
def test_stdin_of_another_encoding_is_told_and_read(
    main: Callable[..., Any],
    quick: list[str],
    codec: str,
    name: str,
    transcript: Callable[[], list[dict[str, Any]]],
) -> None:
    ran = main(*quick, stdin="Grüße".encode(codec))
    assert f"it is read as {name}" in ran.err
    assert next(m["content"] for m in transcript() if m["role"] == "user") == "Grüße"


def test_stdin_that_is_no_text_is_refused(main: Callable[..., Any], quick: list[str]) -> None:
    ran = main(*quick, stdin=b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff")
    assert ran.code == 2
    assert "stdin cannot be read as text" in ran.err


def test_an_empty_raw_prompt_begins_with_the_begin_token(main: Callable[..., Any], quick: list[str]) -> None:
    result = json.loads(main("--raw", "-p", "", "--output", "json", *quick).out)
    assert result["prompt_ids"] == [1]
    assert result["text"]


def test_one_shot_runs_are_kept_apart_from_the_chats(
    main: Callable[..., Any], quick: list[str], llama_chat_home: Path
) -> None:
    store = store_of(llama_chat_home)
    talk = store.create(model="toy")
    talk.append(talk.conversation.add("user", "a chat"))
    talk.close()
    assert main("-p", "one", *quick).code == 0
    assert [chat.id for chat in store.list()] == [talk.id]
    assert store.latest() == store.list()[0], "what -c goes on with in the app"
    assert main("-c", "-p", "two", *quick).code == 0
    (run,) = store.list("oneshot")
    asked = [message.content for message in store.read(run.id) if message.role == "user"]
    assert asked == ["one", "two"]
    assert main("--resume", talk.id, "-p", "three", *quick).code == 0
    assert store.list()[0].message_count == 3
