"""Thoughts in replies: where they end, what ends them, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_core.checkpoint import Checkpoint
from llama_core.engine.text import TextEngine
from llama_core.events import Finished, TextDelta, ThoughtClosed, TokenEvent
from llama_core.sampling.params import SamplingParams

EOS = 257
NO_MARKERS = "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ '\\n' }}"
PLAIN = NO_MARKERS + "{# <think></think> #}"
OPENS = PLAIN + "<think>{{ '\\n' }}"
EMPTY = "<think>\\n\\n</think>\\n\\n"
ASKS = PLAIN + "{% if enable_thinking is defined and not enable_thinking %}{{ '" + EMPTY + "' }}{% endif %}"
ANSWER = b"yes"
CLOSED = b"</think>\n\n"


def thinks_for_ever(ids: Sequence[int]) -> int:
    """Opens a thought, goes on and on, and answers once it is closed."""
    text = bytes(one for one in ids if one < 256)
    reply = text.rpartition(b"?\n")[2]
    if CLOSED in reply:
        said = len(reply.partition(CLOSED)[2])
        return ANSWER[said] if said < len(ANSWER) else EOS
    begin = b"<think>"
    return begin[len(reply)] if len(reply) < len(begin) else ord("a")


@pytest.fixture
def make(byte_tokenizer: Any, scripted: Any) -> Callable[..., TextEngine]:
    def make(template: str | None = PLAIN, script: Any = thinks_for_ever) -> TextEngine:
        model = scripted(script, max_seq_len=512, prefill_chunk=64)
        checkpoint = Checkpoint(
            Path("toy.gguf"), "gguf", 0, model.config, {"embed_tokens": None}, byte_tokenizer, template
        )
        return TextEngine(checkpoint, model)

    return make


def ask(engine: TextEngine, *, budget: int | None = None, thinking: Any = None, **more: Any) -> list[Any]:
    ids = engine.encode_chat([{"role": "user", "content": "why?"}], thinking=thinking)
    params = SamplingParams(temperature=0.0, max_tokens=60, thinking=budget)
    return list(engine.generate(ids, params, **more))


def said(events: list[Any], *, thought: bool) -> str:
    return "".join(one.text for one in events if isinstance(one, TextDelta) and one.thought is thought)


def test_a_thought_that_runs_into_the_limit_stays_a_thought(make: Callable[..., TextEngine]) -> None:
    events = ask(make())
    assert said(events, thought=True) == "a" * 53
    assert said(events, thought=False) == ""
    assert all(one.thought for one in events if isinstance(one, TokenEvent) and one.index > 6)


@pytest.mark.parametrize("budget", [1, 5, 20])
def test_a_budget_ends_a_thought_after_that_many_tokens(make: Callable[..., TextEngine], budget: int) -> None:
    events = ask(make(), budget=budget)
    assert said(events, thought=True) == "a" * (budget - 1), "the last byte of the tag is one of them"
    assert said(events, thought=False) == "yes"
    closed = [one for one in events if isinstance(one, ThoughtClosed)]
    assert closed == [ThoughtClosed(6 + budget, budget)]


def test_answer_now_computes_the_end_marker_and_nothing_anew(make: Callable[..., TextEngine]) -> None:
    engine = make()
    tokens = 0

    def now() -> bool:
        return tokens >= 20

    ids = engine.encode_chat([{"role": "user", "content": "why?"}])
    events: list[Any] = []
    for event in engine.generate(ids, SamplingParams(temperature=0.0), answer_now=now):
        tokens += isinstance(event, TokenEvent)
        events.append(event)
    assert said(events, thought=True) == "a" * 13
    assert said(events, thought=False) == "yes"
    reply = events[-1].ids
    assert bytes(reply[20:]) == b"\n" + CLOSED + ANSWER
    computed = sum(len(one) for one in engine.model.passes)  # type: ignore[attr-defined]
    assert computed == len(ids) + len(reply), (
        "each token once: the prompt, the thought, the marker, the answer"
    )


def test_answer_now_before_the_thought_begins_waits_for_it(make: Callable[..., TextEngine]) -> None:
    events = ask(make(), answer_now=lambda: True)
    assert (said(events, thought=True), said(events, thought=False)) == ("", "yes")


def test_a_budget_draws_the_same_answer_as_the_key_did(make: Callable[..., TextEngine]) -> None:
    tokens = 0

    def now() -> bool:
        nonlocal tokens
        tokens += 1
        return tokens > 15

    first = ask(make(), answer_now=now)
    closed = next(one for one in first if isinstance(one, ThoughtClosed))
    again = ask(make(), budget=closed.thought_n)
    assert [one.ids for one in first if isinstance(one, Finished)] == [
        one.ids for one in again if isinstance(one, Finished)
    ]


@pytest.mark.parametrize(
    ("template", "thinking", "end"),
    [
        (PLAIN, None, "why?\n"),
        (PLAIN, "on", "why?\n<think>\n"),
        (PLAIN, "off", "why?\n<think>\n\n</think>\n\n"),
        (OPENS, None, "why?\n<think>\n"),
        (OPENS, "on", "why?\n<think>\n"),
        (OPENS, "off", "why?\n<think>\n\n</think>\n\n"),
        (ASKS, None, "why?\n"),
        (ASKS, "on", "why?\n"),
        (ASKS, "off", "why?\n<think>\n\n</think>\n\n"),
    ],
)
def test_thinking_on_and_off(make: Callable[..., TextEngine], template: str, thinking: Any, end: str) -> None:
    engine = make(template)
    ids = engine.encode_chat([{"role": "user", "content": "why?"}], thinking=thinking)
    assert engine.tokenizer.decode(ids) == end


def test_a_model_without_markers_thinks_nothing(make: Callable[..., TextEngine]) -> None:
    events = ask(make(NO_MARKERS), budget=3, thinking="on")
    assert said(events, thought=True) == ""
    assert said(events, thought=False).startswith("<think>aaa")


def test_a_stop_string_in_a_thought_stops_nothing(make: Callable[..., TextEngine]) -> None:
    engine = make()
    ids = engine.encode_chat([{"role": "user", "content": "why?"}])
    params = SamplingParams(temperature=0.0, thinking=9, stop=("aaa", "es"))
    events = list(engine.generate(ids, params))
    assert said(events, thought=True) == "a" * 8
    assert said(events, thought=False) == "y"


def test_a_template_gets_the_thoughts_it_asks_for(make: Callable[..., TextEngine]) -> None:
    wants = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.content }};{% endfor %}<think></think>"
    engine = make(wants)
    message = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert engine.tokenizer.decode(engine.encode_chat([message])).startswith("hm|yes;")
