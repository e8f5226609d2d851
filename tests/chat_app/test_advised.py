"""What a model's makers advise holds in every way of asking it, unless who asks says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.engines.local import advised_values
from chat_app.openai.requests import as_advised, parse_generation
from llama_core.loaders import open_checkpoint
from llama_core.sampling.params import SamplingParams
from tests.support.tiny_chat import write_tiny_chat

RunCli = Callable[..., Any]
GREEDY_SETTINGS = ("--backend", "numpy", "--threads", "1", "--no-save", "--output", "json")


@pytest.fixture(scope="module")
def greedy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_chat(tmp_path_factory.mktemp("advised") / "advised.gguf", temperature=0.0)


def test_a_single_reply(main: RunCli, greedy_model: Path) -> None:
    def ids(*options: str) -> list[int]:
        ran = main("-p", "hi", "-m", str(greedy_model), *GREEDY_SETTINGS, "-o", "num_predict", "12", *options)
        assert ran.code == 0, ran.err
        found: list[int] = json.loads(ran.out)["ids"]
        return found

    greedy = ids("-o", "temperature", "0")
    assert ids() == ids() == greedy
    assert ids("-o", "temperature", "9", "--seed", "1") != greedy


def test_a_batch(main: RunCli, greedy_model: Path, tmp_path: Path) -> None:
    def line(name: str, **body: Any) -> str:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "ignore_eos": True, **body}
        return json.dumps({"custom_id": name, "url": "/v1/chat/completions", "body": body}) + "\n"

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(line("a") + line("b", temperature=0) + line("c", temperature=2, seed=1))
    assert main("batch", str(source), str(out), "-m", str(greedy_model), "--backend", "numpy").code == 0
    records = (json.loads(record) for record in out.read_text().splitlines())
    texts = {r["custom_id"]: r["response"]["body"]["choices"][0]["message"]["content"] for r in records}
    assert texts["a"] == texts["b"] != texts["c"]


def test_a_server_and_a_batch_take_what_a_request_leaves_open(greedy_model: Path) -> None:
    advice = {"temperature": 0.6, "top_k": 20, "repeat_penalty": 1.1, "repeat_last_n": 64}

    def params(**body: Any) -> SamplingParams:
        asked = parse_generation("completion", {"prompt": "x", **body})
        return as_advised(asked.params, asked.given, advice)

    open_ = params(temperature=None)
    assert (open_.temperature, open_.top_k, open_.top_p) == (0.6, 20, 1.0)
    assert (open_.repeat_penalty, open_.repeat_last_n) == (1.1, 64)
    asked = params(temperature=1, top_k=0, repetition_penalty=1.0)
    assert (asked.temperature, asked.top_k, asked.repeat_penalty) == (1.0, 0, 1.0)
    assert asked.repeat_last_n == -1, "it goes with the penalty"
    assert advised_values(open_checkpoint(greedy_model)) == {"temperature": 0.0}


def test_a_line_chat_says_where_values_are_from(main: RunCli, greedy_model: Path) -> None:
    lines = "hi\n/show parameters\n/set temperature 0.4\n/set temperature\n/show parameters\n/bye\n"
    options = ("-m", str(greedy_model), "--backend", "numpy", "--no-save", "-o", "num_predict", "2")
    said = main("--plain", *options, stdin=lines).err.splitlines()
    shown = [line.split(None, 2)[1:] for line in said if line.startswith("temperature  ")]
    assert shown == [["0.0", "the model's file"], ["0.4", "set in this session"]]
    assert any("temperature is 0.4 (set in this session)" in line for line in said)
    assert [line.split(None, 2)[2] for line in said if line.startswith("num_predict  ")] == ["-o", "-o"]


def test_the_catalogue_advises_where_a_file_does_not() -> None:
    from chat_app.engines.local import advice_of

    place = Path("/m/hf/Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf")
    assert advice_of(place, {})["top_k"] == (20, "the catalogue")
    assert advice_of(place, {"top_k": 5})["top_k"] == (5, "the model's file")
    cache = Path("/c/models--Qwen--Qwen3-4B-GGUF/snapshots/abc/Qwen3-4B-Q4_K_M.gguf")
    assert advice_of(cache, {}) == advice_of(place, {})
    assert advice_of(Path("/m/other.gguf"), {}) == {}
