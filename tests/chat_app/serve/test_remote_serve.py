"""Our own server as the remote engine of chat and of batch: the same text as the engine of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_app.serve.conftest import Served
from tests.support.batch_lines import answers, by_id, line, text_of, write

RunCli = Callable[..., Any]
GREEDY = ("-o", "temperature", "0", "-o", "num_predict", "12", "-o", "ignore_eos", "true")


def test_a_chat_with_it(served: Served, main: RunCli, quick: list[str], transcript: Any) -> None:
    here = main("-p", "Say hello", *quick, "--no-save")
    ran = main("-p", "Say hello", "-m", f"openai:{served.url}/v1", *GREEDY, "--output", "json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["text"].strip() == here.out.strip()
    assert result["model"] == "tiny-chat"
    assert result["backend"] == "remote (llama-chat)"
    assert result["timings"]["predicted_n"] == 12
    assert result["timings"]["prompt_n"] + result["timings"]["cache_n"] > 5
    kept = transcript()[-1]
    assert served.url.removeprefix("http://") not in json.dumps(kept)


def test_a_reply_is_held_there_as_it_is_here(served: Served, main: RunCli, quick: list[str]) -> None:
    pytest.importorskip("llguidance")
    for held in (
        ["--regex", "(ab|cd)+x"],
        ["--grammar", 'start: "ab" "cd"+\n'],
        ["--schema", '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}'],
    ):
        options = [*held, "-o", "ignore_eos", "false"]
        here = main("-p", "Say hello", *quick, *options, "--no-save")
        there = main("-p", "Say hello", "-m", f"openai:{served.url}/v1", *GREEDY, *options, "--no-save")
        assert there.code == here.code == 0, there.err
        assert there.out == here.out
        assert "not told" not in there.err
        assert here.out.startswith(("ab", "cd", "{"))


def test_a_reply_goes_on_where_it_stopped(served: Served, main: RunCli, transcript: Any) -> None:
    """With the tokens of its text, behind those of the prompt."""
    question, begun = {"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "Hello, "}
    more = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}
    ids = served.engine.encode_chat([question]) + served.engine.tokenizer.encode("Hello, ")
    with served.http() as http:
        body = {"messages": [question, begun], "continue_final_message": True, **more}
        went_on = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        plain = http.post("/v1/completions", json={"prompt": ids, **more}).json()["choices"][0]["text"]
        assert went_on == plain
        for wrong in ({"messages": [question]}, {"add_generation_prompt": True}):
            assert http.post("/v1/chat/completions", json=body | wrong).status_code == 400
    options = ["-o", "temperature", "0", "-o", "num_predict", "6", "-o", "ignore_eos", "true"]
    ran = main("--plain", "-m", f"openai:{served.url}/v1", *options, stdin="Say hello\n/continue\n/bye\n")
    assert ran.code == 0, ran.err
    reply = transcript()[-1]
    assert reply["x"]["timings"]["predicted_n"] == 12


def test_a_batch_of_it_gives_the_text_of_this_machine(
    served: Served, main: RunCli, tiny_model: Path, tmp_path: Path
) -> None:
    lines = [line(f"r{i}", max_tokens=4 + i % 5) for i in range(12)]
    source, here, there = (
        write(tmp_path / "in.jsonl", lines),
        tmp_path / "here.jsonl",
        tmp_path / "there.jsonl",
    )
    assert main("batch", str(source), str(here), "-m", str(tiny_model), "--backend", "numpy").code == 0
    ran = main("batch", str(source), str(there), "--engine", f"{served.url}/v1")
    assert ran.code == 0, ran.err
    assert sorted(answers(there)) == sorted(f"r{i}" for i in range(12))
    found = by_id(here)
    for name, record in by_id(there).items():
        assert text_of(record) == text_of(found[name])
        assert record["response"]["body"]["usage"]["completion_tokens"] == 4 + int(name[1:]) % 5
