"""Thoughts in the server's and the batch's answers: `reasoning_content`, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chat_app.openai.prepared import prepare
from chat_app.openai.requests import BadRequest, parse_generation
from chat_app.openai.responses import Head, Reply, Usage, piece, whole
from chat_app.serve.worker import Piece, Stream, Worker
from llama_core.engine.batch.request import BatchResult, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.batch.text import TextRequest, run_texts
from llama_core.engine.text import TextEngine
from llama_core.events import TextDelta
from llama_core.sampling.params import SamplingParams
from tests.support.thinker import thinker

REPLY = b"<think>\nhm, so\n</think>\n\nyes"
HEAD = Head("chat", "chatcmpl-1", 0, "toy")


def text_engine() -> TextEngine:
    return thinker(REPLY)[0]._engine


def test_a_stream_says_the_thought_apart() -> None:
    engine = text_engine()
    ids = engine.encode_chat([{"role": "user", "content": "why?"}])
    stream = Stream("a", engine.reply_text(ids))
    for token in REPLY:
        assert not stream.on_token(DrawnToken(token, -0.1))
    stream.finish(BatchResult("a", "stop", tuple(REPLY), len(ids), 0))
    pieces = [one for one in stream.pieces if isinstance(one, Piece)]
    assert "".join(one.text for one in pieces if one.thought) == "hm, so"
    assert "".join(one.text for one in pieces if not one.thought) == "yes"
    assert sum(len(one.tokens) for one in pieces) == len(REPLY), "no token's log-probability is lost"
    deltas = [piece(HEAD, 0, one.text, thought=one.thought)["choices"][0]["delta"] for one in pieces]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm, so"
    assert "".join(delta.get("content", "") for delta in deltas) == "yes"


def test_an_answer_carries_its_thought() -> None:
    answer = whole(HEAD, [Reply("yes", "stop", None, "hm, so"), Reply("no", "stop")], Usage(1, 0, 2))
    first, second = (choice["message"] for choice in answer["choices"])
    assert (first["content"], first["reasoning_content"]) == ("yes", "hm, so")
    assert "reasoning_content" not in second


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, "off"),
        ({"reasoning_effort": "low"}, "on"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "off"),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, "on"),
        ({"chat_template_kwargs": {}}, None),
        ({"thinking_token_budget": 9}, 9),
        ({"thinking_token_budget": 0, "reasoning_effort": "high"}, 0),
        ({"thinking_token_budget": 9, "chat_template_kwargs": {"enable_thinking": False}}, "off"),
        ({"thinking_budget_tokens": 9}, 9),
        ({"thinking_budget_tokens": -1}, None),
        ({"thinking_budget_tokens": -1, "reasoning_effort": "high"}, "on"),
    ],
)
def test_whether_to_think_can_be_asked_for(body: dict[str, Any], expected: Any) -> None:
    messages = [{"role": "user", "content": "why?"}]
    assert parse_generation("chat", {"messages": messages, **body}).params.thinking == expected


@pytest.mark.parametrize(
    "body",
    [
        {"reasoning_effort": "much"},
        {"chat_template_kwargs": {"enable_thinking": "no"}},
        {"chat_template_kwargs": {"other": True}},
        {"chat_template_kwargs": [1]},
    ],
)
def test_what_cannot_be_honoured_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"reasoning_effort|chat_template_kwargs"):
        parse_generation("chat", {"messages": [{"role": "user", "content": "why?"}], **body})


@pytest.mark.parametrize("budget", [0, 4, 50])
def test_a_budget_ends_a_thought_as_it_does_alone(budget: int) -> None:
    """The same tokens in company as from the engine by itself, which the chat asks."""
    engine = text_engine()
    ids = engine.encode_chat([{"role": "user", "content": "why?"}], thinking=budget)
    params = SamplingParams(temperature=0.0, max_tokens=60, thinking=budget)
    events = list(engine.generate(ids, params))
    said = {
        thought: "".join(one.text for one in events if isinstance(one, TextDelta) and one.thought is thought)
        for thought in (True, False)
    }
    assert said[False] == "yes"
    requests = [
        TextRequest("free", ids, SamplingParams(temperature=0.0, max_tokens=60), thinking=engine.thinking),
        TextRequest("bound", ids, params, thinking=engine.thinking),
    ]
    batch = BatchEngine(engine.model, kv_budget_bytes=1 << 20, ctx_size=256)
    results = {one.key: one for one in run_texts(batch, engine.tokenizer, requests)}
    assert (results["free"].thought, results["free"].text) == ("hm, so", "yes")
    assert (results["bound"].thought, results["bound"].text) == (said[True], "yes")
    assert results["bound"].reply_n == len(events[-1].ids)  # type: ignore[union-attr]
    if budget < 50:
        assert len(said[True]) <= budget < len("hm, so")


def test_the_server_holds_a_thought_to_its_budget() -> None:
    engine = text_engine()
    body = {"messages": [{"role": "user", "content": "why?"}], "thinking_token_budget": 4, "temperature": 0}
    prepared = prepare(parse_generation("chat", body), engine, {})

    async def ask() -> list[Piece]:
        worker = Worker(
            BatchEngine(engine.model, kv_budget_bytes=1 << 20, ctx_size=256), engine.tokenizer, queue_n=1
        )
        worker.start(asyncio.get_running_loop())
        stream = worker.submit("a", prepared, None)
        pieces: list[Piece] = []
        while isinstance(news := await asyncio.wait_for(stream.queue.get(), 60), Piece):
            pieces.append(news)
        await asyncio.to_thread(worker.close)
        return pieces

    pieces = asyncio.run(ask())
    assert 0 < len("".join(one.text for one in pieces if one.thought)) <= 4
    assert "".join(one.text for one in pieces if not one.thought) == "yes"


def test_a_thought_may_be_sent_back() -> None:
    messages = [
        {"role": "user", "content": "why?"},
        {"role": "assistant", "content": "yes", "reasoning_content": "hm"},
    ]
    parsed = parse_generation("chat", {"messages": messages}).messages
    assert parsed is not None
    assert dict(parsed[1]) == messages[1]
    messages[1]["reasoning_content"] = 7  # type: ignore[assignment]
    with pytest.raises(BadRequest, match="not a string"):
        parse_generation("chat", {"messages": messages})


def test_a_batch_tells_thoughts_apart_where_asked() -> None:
    engine = text_engine()
    ids = engine.encode_chat([{"role": "user", "content": "why?"}])
    params = SamplingParams(temperature=0.0, max_tokens=60)
    requests = [TextRequest("a", ids, params, thinking=engine.thinking), TextRequest("b", ids, params)]
    batch = BatchEngine(engine.model, kv_budget_bytes=1 << 20, ctx_size=256)
    results = {one.key: one for one in run_texts(batch, engine.tokenizer, requests)}
    assert (results["a"].thought, results["a"].text) == ("hm, so", "yes")
    assert (results["b"].thought, results["b"].text) == ("", REPLY.decode())
