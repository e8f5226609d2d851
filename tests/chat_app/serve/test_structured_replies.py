"""Held replies, scored answers, calls of tools and embeddings, by OpenAI's own client."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from tests.chat_app.serve.conftest import Served, Start
from tests.support.tiny_chat import write_tiny_chat

pytest.importorskip("llguidance")

ASKED = [{"role": "user", "content": "the weather"}]
GREEDY: dict[str, Any] = {"model": "any", "messages": ASKED, "temperature": 0, "max_tokens": 120}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "maxProperties": 0}}},
]
# Writes tools, calls and their results, as Hermes and Qwen do.
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}"
    "{{ {'name': tool.function.name, 'about': tool.function.description or ''} | tojson }}"
    "{% endfor %}<tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }} "
    "{{ call.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tool_engine(tmp_path_factory: pytest.TempPathFactory, kernel_cache: Path) -> Iterator[TextEngine]:
    path = write_tiny_chat(tmp_path_factory.mktemp("tools") / "tools.gguf", TOOL_TEMPLATE)
    made = load_engine(path, backend="numpy", kernel_cache=kernel_cache)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tooled(start: Start, tool_engine: TextEngine) -> Iterator[Served]:
    with start(engine=tool_engine) as one:
        yield one


def test_json_of_a_schema_whole_and_streamed(served: Served) -> None:
    client = served.client()
    answer = client.chat.completions.create(**GREEDY, response_format=FORMAT)
    assert answer.choices[0].finish_reason == "stop"
    found = json.loads(answer.choices[0].message.content or "")
    assert found["city"] in ("Rome", "Oslo")
    assert 1 <= found["days"] <= 9
    pieces = client.chat.completions.create(**GREEDY, response_format=FORMAT, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == answer.choices[0].message.content
    several = client.chat.completions.create(
        **{**GREEDY, "temperature": 1.5}, response_format=FORMAT, n=4, seed=1
    )
    texts = [choice.message.content or "" for choice in several.choices]
    assert all(json.loads(one)["city"] in ("Rome", "Oslo") for one in texts)
    assert len(set(texts)) > 1
    any_object = client.chat.completions.create(
        **{**GREEDY, "max_tokens": 40}, response_format={"type": "json_object"}
    )
    assert (any_object.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "schema"),
        ({"guided_regex": "a", "guided_json": {}}, "invalid_value", "exclude each other"),
        ({"guided_choice": ["a"]}, "invalid_value", "2 to 256"),
        ({"guided_choice": ["a", ""]}, "invalid_type", "not empty"),
        ({"logit_bias": {"a": 1}}, "invalid_type", "by token id"),
        ({"logit_bias": {"1": 101}}, "invalid_value", "-100 to 100"),
        ({"tools": TOOLS}, "unsupported_value", "takes no tools"),
        ({"tools": [{"type": "retrieval"}]}, "unsupported_value", "type function"),
        ({"tool_choice": "required"}, "invalid_value", "needs body.tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "rm"}}},
            "invalid_value",
            "none of none, auto",
        ),
    ],
)
def test_what_cannot_be_held_is_told(served: Served, body: dict[str, Any], code: str, says: str) -> None:
    reply = served.http().post("/v1/chat/completions", json={**GREEDY, **body})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == code
    assert says in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "odd"}}}},
        {"guided_json": {"type": "odd"}},
        {"guided_regex": "[a-"},
        {"guided_grammar": "start: nowhere"},
    ],
)
def test_a_grammar_that_cannot_be_held_is_told_by_its_own_field(served: Served, body: dict[str, Any]) -> None:
    error = served.http().post("/v1/chat/completions", json={**GREEDY, **body}).json()["error"]
    (field,) = body
    assert (error["code"], error["param"]) == ("invalid_value", f"body.{field}")
    assert "cannot be held to" in error["message"]


def test_two_that_exclude_each_other_are_both_named(tooled: Served) -> None:
    asked = {**GREEDY, "tools": TOOLS, "tool_choice": "required"}
    text = {"response_format": {"type": "text"}}
    for body in ({"guided_regex": "a"}, {**text, "guided_choice": ["a", "b"]}):
        error = tooled.http().post("/v1/chat/completions", json=asked | body).json()["error"]
        assert error["message"] == f"body.tool_choice and body.{list(body)[-1]} exclude each other"
    assert tooled.http().post("/v1/chat/completions", json=asked | text).status_code == 200
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"type": "odd"}}}
    error = tooled.http().post("/v1/chat/completions", json=asked | {"tools": [odd]}).json()["error"]
    assert error["param"] == "body.tools"


def test_without_the_extra_a_sentence_says_what_to_install(served: Served, monkeypatch: Any) -> None:
    import openai

    monkeypatch.setattr("llama_core.constraints.guidance.is_installed", lambda: False)
    monkeypatch.setattr(served.engine.rules, "_grammars", None)
    with pytest.raises(openai.BadRequestError, match=r"pip install llama-chat\[structured\]"):
        served.client().chat.completions.create(**GREEDY, response_format=FORMAT)


def test_a_bias_bars_a_token_and_penalties_are_taken(served: Served) -> None:
    client = served.client()
    plain = client.chat.completions.create(**GREEDY, logprobs=True)
    assert plain.choices[0].logprobs is not None
    first = (plain.choices[0].logprobs.content or [])[0]
    (token,) = [i for i in range(262) if served.engine.tokenizer.token_text(i) == first.token]
    barred = client.chat.completions.create(**GREEDY, logit_bias={str(token): -100})
    assert (barred.choices[0].message.content or "x")[0] != first.token
    changed = client.chat.completions.create(**GREEDY, presence_penalty=2, frequency_penalty=2)
    assert changed.choices[0].message.content != plain.choices[0].message.content
    extra = {"dry_multiplier": 5, "dry_allowed_length": 1, "typical_p": 0.9, "dry_sequence_breakers": []}
    dry = client.chat.completions.create(**GREEDY, extra_body=extra)
    assert dry.choices[0].message.content != plain.choices[0].message.content


def test_answers_are_scored_and_the_likeliest_is_the_reply(served: Served) -> None:
    answers = ["good", "bad", "the"]
    asked = {**GREEDY, "extra_body": {"guided_choice": answers}}
    answer = served.client().chat.completions.create(**asked)
    expected = served.engine.score(served.engine.encode_chat(ASKED), answers)
    found = {one["text"]: one for one in answer.choices[0].model_extra["answers"]}  # type: ignore[index]
    for text, one in zip(answers, expected, strict=True):
        assert found[text]["probability"] == pytest.approx(one.probability, rel=1e-4)
        assert found[text]["logprob"] == pytest.approx(one.logprob, rel=1e-4)
    best = max(found, key=lambda text: found[text]["logprob"])
    assert answer.choices[0].message.content == best
    pieces = list(served.client().chat.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == best


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_come_comes(tooled: Served, choice: Any) -> None:
    asked = {**GREEDY, "tools": TOOLS, "tool_choice": choice, "temperature": 1.0, "seed": 5}
    answer = tooled.client().chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    (call,) = message.tool_calls or ()
    assert call.function.name in ("weather", "now")
    if choice != "required":
        assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    pieces = list(tooled.client().chat.completions.create(**asked, stream=True))
    deltas = [call for piece in pieces for call in piece.choices[0].delta.tool_calls or ()]
    (streamed,) = deltas
    assert (streamed.index, streamed.function.name) == (0, call.function.name)  # type: ignore[union-attr]
    assert streamed.id
    assert pieces[-1].choices[0].finish_reason == "tool_calls"
    assert not any(piece.choices[0].delta.content for piece in pieces)


def test_calls_and_results_go_back_into_the_prompt(tooled: Served, monkeypatch: Any) -> None:
    prompts: list[str] = []
    encode = type(tooled.engine).encode_chat

    def listening(engine: TextEngine, messages: Any, **more: Any) -> list[int]:
        ids = encode(engine, messages, **more)
        prompts.append("".join(engine.tokenizer.token_text(i) for i in ids))
        return ids

    monkeypatch.setattr(type(tooled.engine), "encode_chat", listening)
    call = {"id": "c1", "type": "function"}
    call |= {"function": {"name": "weather", "arguments": '{"city": "<|im_end|>"}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain <|im_start|>"},
    ]
    asked = {**GREEDY, "messages": messages, "max_tokens": 2}
    tool = {"type": "function", "function": {"name": "weather", "description": "x"}}
    tooled.client().chat.completions.create(**asked, tools=[tool])
    tooled.client().chat.completions.create(**asked, tools=[tool], tool_choice="none")
    assert '"name": "weather"' in prompts[0]
    assert '<tool_call>weather {"city": "<|im_end|>"}</tool_call>' in prompts[0]
    assert "tool\nrain <|im_start|>" in prompts[0]
    assert '"about"' not in prompts[1]
    # What a message or a tool spells is text: the markers are the template's own.
    ids = encode(tooled.engine, ASKED)
    with_tools = encode(
        tooled.engine, ASKED, tools=[{"type": "function", "function": {"name": "<|im_end|>"}}]
    )
    assert with_tools.count(2) == ids.count(2) + 1


def test_texts_become_vectors(served: Served) -> None:
    client, engine = served.client(), served.engine
    answer = client.embeddings.create(model="any", input=["the cat", "the"], encoding_format="float")
    assert len(answer.data) == 2
    for text, found in zip(["the cat", "the"], answer.data, strict=True):
        ids = engine.encode_raw(text)
        cache = engine.model.new_cache(len(ids))
        states = engine.model.hidden_states(np.array(ids, np.int32), cache).astype(np.float64)
        mean = states.mean(axis=0)
        assert np.allclose(found.embedding, mean / np.linalg.norm(mean), atol=1e-5)
    assert answer.usage.prompt_tokens == sum(len(engine.encode_raw(text)) for text in ("the cat", "the"))
    assert "mean of the last layer" in answer.model_extra["pooling"]  # type: ignore[index]
    raw = client.embeddings.with_raw_response.create(model="any", input="the cat", encoding_format="base64")
    packed = json.loads(raw.text)["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(packed), "<f4"), answer.data[0].embedding, atol=1e-6)
    assert np.allclose(
        client.embeddings.create(model="any", input="the").data[0].embedding, answer.data[1].embedding
    )
    ids = client.embeddings.create(model="any", input=[engine.encode_raw("the"), [5, 6]])
    assert np.allclose(ids.data[0].embedding, answer.data[1].embedding)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "body.input"),
        ({"input": ""}, "not empty"),
        ({"input": []}, "not empty"),
        ({"input": [[1], "x", 3]}, "neither a text"),
        ({"input": "x", "dimensions": 8}, "have 64"),
        ({"input": "x", "encoding_format": "int8"}, "float or base64"),
        ({"input": "the " * 600}, "the context holds"),
        ({"input": [[99999]]}, "no token"),
        ({"input": "x", "quux": 1}, "not supported"),
    ],
)
def test_what_is_no_text_is_told(served: Served, body: dict[str, Any], says: str) -> None:
    reply = served.http().post("/v1/embeddings", json=body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


def test_a_text_that_becomes_a_vector_lets_others_tokens_pass(start: Start, monkeypatch: Any) -> None:
    """Beside a reply it is computed a few tokens at a time."""
    with start() as served:
        took: list[int] = []
        model = type(served.engine.model)
        states = model.hidden_states

        def watched(self: Any, ids: Any, *arguments: Any, **more: Any) -> Any:
            took.append(len(ids))
            time.sleep(0.002)
            return states(self, ids, *arguments, **more)

        monkeypatch.setattr(model, "hidden_states", watched)
        stream = served.client().chat.completions.create(**{**GREEDY, "max_tokens": 300}, stream=True)
        next(iter(stream))
        thread = threading.Thread(
            target=lambda: served.client().embeddings.create(model="any", input="the cat " * 60)
        )
        thread.start()
        n = sum(1 for _ in stream)
        thread.join(60)
        assert n > 10
        assert max(took[:3]) <= 32


def test_empty_text_begins_with_bos_only_where_the_model_asks(served: Served) -> None:
    found = served.http().post("/tokenize", json={"content": "", "add_special": True}).json()
    assert found == {"tokens": []}  # this model has a BOS and does not ask for it
