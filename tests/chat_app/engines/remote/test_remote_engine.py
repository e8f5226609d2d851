"""The engine that asks a server: what it sends, what it makes of answers, and what it does when they fail."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chat_app.config.endpoints import parse_endpoint
from chat_app.config.settings import LOOP_ROUNDS, Settings
from chat_app.engines.base import BrokenOffError, NotCapableError, PromptRequest, Turn
from chat_app.engines.remote.client import Client, ServerError
from chat_app.engines.remote.dialects import DIALECTS
from chat_app.engines.remote.discovery import Server
from chat_app.engines.remote.engine import RemoteEngine, open_remote_engine
from chat_app.engines.remote.loop import LoopThread
from chat_app.engines.remote.patience import Patience
from chat_app.openai.requests import parse_generation
from chat_app.text.errors import SentenceError
from llama_core.constraints.grammar import Grammar
from llama_core.events import (
    UNKNOWN_ID,
    Event,
    Finished,
    LoadProgress,
    PrefillProgress,
    TextDelta,
    TokenEvent,
)
from llama_core.sampling.params import SamplingParams
from tests.support.fake_server import Asked, FakeServer, Reply, fake_server

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as one:
        yield one


Start = Callable[..., RemoteEngine]


@pytest.fixture
def start() -> Iterator[Start]:
    """An engine on a server, without asking who it is; its waits are short."""
    made: list[RemoteEngine] = []

    def begin(server: FakeServer, kind: str = "other", **endpoint: Any) -> RemoteEngine:
        client = Client(replace(parse_endpoint(server.url + "#fake"), **endpoint))
        patience = Patience(tries=4, first_s=0.01)
        made.append(
            RemoteEngine(client, LoopThread("test"), Server("fake", DIALECTS[kind], 0), patience=patience)
        )
        return made[-1]

    yield begin
    for engine in made:
        engine.close()


def events_of(
    engine: RemoteEngine,
    text: str = "Hi",
    params: SamplingParams = GREEDY,
    cancelled: Callable[[], bool] = lambda: False,
    **request: Any,
) -> list[Event]:
    prompt = engine.prepare(PromptRequest((Turn("user", text),), params, **request))
    return list(engine.stream(prompt, params, cancelled=cancelled))


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def finished(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


def test_a_reply_with_what_the_server_tells_and_what_is_measured(server: FakeServer, start: Start) -> None:
    events = events_of(start(server))
    assert text_of(events) == "Hello there."
    end = finished(events)
    assert (end.reason, end.ids) == ("stop", ())
    timings = end.timings
    assert (timings.prompt_n, timings.cache_n, timings.predicted_n) == (7, 4, 3)
    assert timings.prompt_s == 0.0  # it tells no time of its own
    assert timings.ttft_s > 0
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [token.index for token in tokens] == [0, 1, 2]
    assert all(token.id == UNKNOWN_ID and math.isnan(token.logprob) for token in tokens)
    asked = server.asked[-1]
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == [{"role": "user", "content": "Hi"}]
    assert "Authorization" not in asked.headers


def test_llama_cpps_own_numbers(server: FakeServer, start: Start) -> None:
    told = {
        "cache_n": 5,
        "prompt_n": 20,
        "prompt_ms": 250.0,
        "predicted_n": 3,
        "draft_n": 4,
        "draft_n_accepted": 2,
    }
    server.script = lambda asked: Reply(more={"timings": told})
    timings = finished(events_of(start(server, "llama.cpp"))).timings
    assert (timings.cache_n, timings.prompt_n, timings.prompt_s) == (5, 20, 0.25)
    assert (timings.draft_n, timings.draft_accepted_n) == (4, 2)
    assert server.asked[-1].body["return_progress"] is True


def test_progress_of_a_prompt() -> None:
    from chat_app.engines.remote.answer import Answer

    answer = Answer(10.0)
    told = {"prompt_progress": {"total": 100, "cache": 20, "processed": 60, "time_ms": 500}}
    assert list(answer.take(told, 10.5)) == [PrefillProgress(20, 40, 80, 0.5)]
    piece = {"choices": [{"delta": {"content": "a"}}]}
    token, _ = answer.take(piece, 11.5)
    assert isinstance(token, TokenEvent)
    assert token.step_s == 1.0  # the prompt's half second is told apart
    assert answer.finished(None, 0).timings.ttft_s == 1.5


def test_thoughts_are_marked() -> None:
    from chat_app.engines.remote.answer import Answer

    answer = Answer(0.0)
    deltas = [{"reasoning_content": "Hm"}, {"reasoning_content": "m."}, {"content": "Yes"}, {"content": "."}]
    events = [event for one in deltas for event in answer.take({"choices": [{"delta": one}]}, 1.0)]
    said = [event for event in events if isinstance(event, TextDelta)]
    assert [(one.text, one.thought) for one in said] == [
        ("Hm", True),
        ("m.", True),
        ("Yes", False),
        (".", False),
    ]
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [one.thought for one in tokens] == [True, True, False, False]


def test_each_kind_of_server_is_told_what_it_knows(server: FakeServer, start: Start) -> None:
    more = {"seed": 7, "max_tokens": 9, "stop": ("x",), "thinking": "off"}
    params = replace(Settings().params, temperature=0.5, top_k=0, min_p=0.1, repeat_penalty=1.1, **more)
    dry = {"dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"}
    common = {"temperature", "top_p", "seed", "max_tokens", "stop"}
    known = {
        "other": common,
        "openai": common - {"max_tokens"} | {"max_completion_tokens"},
        "vllm": common | {"top_k", "min_p", "repetition_penalty", "chat_template_kwargs"},
        "llama.cpp": common
        | {"top_k", "min_p", "repeat_penalty", "typical_p", "repeat_last_n", *dry}
        | {"return_progress", "chat_template_kwargs"},
    }
    plain = {"model", "messages", "stream", "stream_options", "logprobs", "top_logprobs"}
    for kind, names in known.items():
        events_of(start(server, kind), params=params)
        body = server.asked[-1].body
        assert set(body) - plain == names, kind
        assert body["seed"] == 7
        assert body.get("chat_template_kwargs", {"enable_thinking": False}) == {"enable_thinking": False}
        assert body.get("top_k", -1) == (0 if kind == "llama.cpp" else -1)
    prompt = start(server).prepare(PromptRequest((Turn("user", "Hi"),), params))
    assert prompt.notes == (
        "The server is not told top_k, min_p, repeat_penalty, thinking: it has no field for that.",
    )


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def held(
    server: FakeServer, engine: RemoteEngine, grammar: Grammar
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a reply that is held to `grammar` is asked for with, and what the user is told."""
    params = replace(Settings().params, temperature=0.0, grammar=grammar)
    notes = engine.prepare(PromptRequest((Turn("user", "Hi"),), params)).notes
    events_of(engine, params=params)
    names = ("response_format", "guided_regex", "guided_grammar", "structured_outputs", "grammar")
    return {name: value for name, value in server.asked[-1].body.items() if name in names}, notes


@pytest.mark.parametrize("kind", sorted(DIALECTS))
def test_a_schema_is_sent_as_response_format(server: FakeServer, start: Start, kind: str) -> None:
    body, notes = held(server, start(server, kind), Grammar("schema", json.dumps(SCHEMA)))
    described = body["response_format"]["json_schema"]
    assert body == {"response_format": {"type": "json_schema", "json_schema": described}}
    assert (described["schema"], described["strict"]) == (SCHEMA, True)
    assert described["name"]  # OpenAI wants one
    assert notes == ()


@pytest.mark.parametrize(
    ("kind", "regex", "grammar"),
    [
        ("llama-chat", {"guided_regex": "a+"}, {"guided_grammar": "start: /a/"}),
        (
            "vllm",
            {"structured_outputs": {"regex": "a+"}},
            {"structured_outputs": {"grammar": "start: /a/"}},
        ),
        ("openai", {}, {}),
    ],
)
def test_a_grammar_is_sent_where_there_is_a_field_for_it(
    server: FakeServer, start: Start, kind: str, regex: dict[str, Any], grammar: dict[str, Any]
) -> None:
    for given, sent in ((Grammar("regex", "a+"), regex), (Grammar("grammar", "start: /a/"), grammar)):
        body, notes = held(server, start(server, kind), given)
        assert body == sent
        told = () if sent else ("The server is not told grammar: it has no field for that.",)
        assert notes == told


def test_our_own_server_is_told_everything(server: FakeServer, start: Start) -> None:
    """All that a user can set, but for the watch for loops, which is kept here."""
    params = SamplingParams(
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        typical_p=0.9,
        repeat_penalty=1.1,
        repeat_last_n=5,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        dry_multiplier=1.0,
        dry_base=2.0,
        dry_allowed_length=3,
        dry_penalty_last_n=9,
        dry_sequence_breakers=("x", "y"),
        logit_bias=((3, -1.0), (7, 2.0)),
        grammar=Grammar("regex", "a+"),
        seed=7,
        max_tokens=9,
        stop=("x",),
        thinking=12,
        loop_rounds=LOOP_ROUNDS,
        ignore_eos=True,
    )
    engine = start(server, "llama-chat")
    assert engine.prepare(PromptRequest((Turn("user", "Hi"),), params)).notes == ()
    events_of(engine, params=params)
    assert parse_generation("chat", server.asked[-1].body).params == replace(params, loop_rounds=0)
    events_of(engine, params=replace(Settings().params, thinking="off"))
    taken = parse_generation("chat", server.asked[-1].body).params
    assert taken.thinking == "off"


def test_logprobs_become_looks(server: FakeServer, start: Start) -> None:
    from chat_app.chat.inspection import told_looks

    def entry(word: str, logprob: float, **others: float) -> dict[str, Any]:
        top = [{"token": word, "logprob": logprob, "bytes": list(word.encode())}]
        top += [{"token": other, "logprob": value, "bytes": None} for other, value in others.items()]
        return {"token": word, "logprob": logprob, "bytes": list(word.encode()), "top_logprobs": top}

    entries = [entry("Hel", -1.0, Oh=-0.5, Ah=-2.0), entry("lo", -0.1)]
    server.script = lambda asked: Reply(words=("Hel", "lo"), logprobs=entries)
    events = events_of(start(server))
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [token.logprob for token in tokens] == [-1.0, -0.1]
    first, second = told_looks(tokens)
    assert [one.text for one in first.top] == ["Oh", "Hel", "Ah"]
    assert (first.rank, first.chosen.raw) == (2, b"Hel")
    assert first.chosen.id == first.top[1].id != first.top[0].id
    assert math.isclose(second.chosen.probability, math.exp(-0.1))
    assert "logprobs" not in bodies(server, start(server, logprobs=False))


def bodies(server: FakeServer, engine: RemoteEngine) -> dict[str, Any]:
    events_of(engine)
    return server.asked[-1].body


def test_a_field_that_is_refused_is_left_out_from_then_on(server: FakeServer, start: Start) -> None:
    def script(asked: Asked) -> Reply:
        if "top_logprobs" in asked.body:
            return Reply(
                status=400, error={"message": "top_logprobs is not supported", "param": "top_logprobs"}
            )
        if "max_tokens" in asked.body:
            return Reply(status=400, error={"message": "Use 'max_completion_tokens' instead."})
        return Reply()

    server.script = script
    engine = start(server)
    assert text_of(events_of(engine, params=replace(GREEDY, max_tokens=5))) == "Hello there."
    assert server.asked[-1].body["max_completion_tokens"] == 5
    n = len(server.asked)
    events_of(engine)
    assert len(server.asked) == n + 1


def test_a_refused_request_is_told_in_the_servers_words(server: FakeServer, start: Start) -> None:
    server.script = lambda asked: Reply(status=400, error={"message": "too\x1b[31m long", "code": "context"})
    with pytest.raises(ServerError, match=r"^The server answers: too\[31m long \(400\)$"):
        events_of(start(server))
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_when_it_says(server: FakeServer, start: Start) -> None:
    replies = iter([Reply(status=429, headers={"Retry-After": "0.2"}), Reply(status=503), Reply()])
    server.script = lambda asked: next(replies)
    began = time.monotonic()
    events = events_of(start(server))
    assert time.monotonic() - began >= 0.2
    assert [event.stage for event in events if isinstance(event, LoadProgress)] == ["waiting"] * 2
    assert text_of(events) == "Hello there."
    server.script = lambda asked: Reply(status=500, error={"message": "broken"})
    with pytest.raises(ServerError, match="broken"):
        events_of(start(server))
    assert len(server.asked) == 3 + 4


def test_waits_double_within_bounds_and_what_is_asked_for_comes_first() -> None:
    patience, error = Patience(tries=9, first_s=1.0, most_s=4.0), ServerError("busy", 503)
    assert [patience.wait_s(error, n, luck=1.0) for n in (1, 2, 3, 8, 9)] == [1.0, 2.0, 4.0, 4.0, None]
    assert patience.wait_s(error, 1, luck=0.0) == 0.5
    assert patience.wait_s(ServerError("busy", 429, retry_s=7.0), 1) == 7.0
    assert patience.wait_s(ServerError("no", 401), 1) is None


def test_stopping_a_silent_server_is_quick_and_lets_it_go(server: FakeServer, start: Start) -> None:
    gate = threading.Event()
    server.script = lambda asked: Reply(gate=gate)
    engine, seen = start(server), threading.Event()
    prompt = engine.prepare(PromptRequest((Turn("user", "Hi"),), GREEDY))
    events = []
    for event in engine.stream(prompt, GREEDY, cancelled=seen.is_set):
        events.append(event)
        if isinstance(event, TextDelta):
            seen.set()
    assert finished(events).reason == "cancelled"
    assert text_of(events) == "Hello"
    deadline = time.monotonic() + 10
    while not server.gone and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.gone == 1
    gate.set()


def test_a_broken_stream_keeps_what_came(server: FakeServer, start: Start) -> None:
    server.script = lambda asked: Reply(cut=True)
    engine = start(server, "vllm")
    prompt = engine.prepare(PromptRequest((Turn("user", "Hi"),), GREEDY))
    events: list[Event] = []
    with pytest.raises(BrokenOffError, match="What came is kept; /continue goes on with it"):
        events.extend(iter(engine.stream(prompt, GREEDY, cancelled=lambda: False)))
    assert len(server.asked) == 1  # what has begun is not asked for twice
    turns = (Turn("user", "Hi"), Turn("assistant", "Hello"))
    server.script = lambda asked: Reply(words=(" again",))
    prompt = engine.prepare(PromptRequest(turns, GREEDY, continue_last=True))
    assert text_of(list(engine.stream(prompt, GREEDY, cancelled=lambda: False))) == " again"
    body = server.asked[-1].body
    assert body["continue_final_message"] is True
    assert body["messages"][-1] == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize("reply", [Reply(reason=""), Reply(done=False)])
def test_either_sign_of_an_end_is_one(server: FakeServer, start: Start, reply: Reply) -> None:
    """`[DONE]` without a reason, or a reason without `[DONE]`."""
    server.script = lambda asked: reply
    events = events_of(start(server))
    assert text_of(events) == "Hello there."
    assert finished(events).reason == "stop"
    assert len(server.asked) == 1


def test_a_stream_that_ends_without_a_word_is_broken(server: FakeServer, start: Start) -> None:
    server.script = lambda asked: Reply(reason="", done=False)
    with pytest.raises(BrokenOffError, match="ended in the middle"):
        events_of(start(server))
    server.script = lambda asked: Reply(words=(), reason="", done=False)
    with pytest.raises(ServerError, match="ended in the middle"):
        events_of(start(server))


def test_a_raw_prompt(server: FakeServer, start: Start) -> None:
    events_of(start(server), "Once upon", raw=True)
    assert server.asked[-1].path == "/v1/completions"
    assert server.asked[-1].body["prompt"] == "Once upon"
    with pytest.raises(NotCapableError, match="without a chat template"):
        events_of(start(server, "openai"), raw=True)


def test_nobody_there_is_a_sentence(server: FakeServer, start: Start) -> None:
    engine = start(server)
    server.kill()
    with pytest.raises(ServerError, match=r"^The server cannot be reached: .*refused") as caught:
        events_of(engine)
    assert server.url not in str(caught.value)
    with pytest.raises(SentenceError, match="cannot be reached"):
        open_remote_engine(parse_endpoint(server.url), lambda progress: None)


def test_no_secret_is_ever_told(server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret-key")
    query, headers = "api=hidden-too", (("X-Token", "token-of-mine"),)

    def script(asked: Asked) -> Reply:
        assert asked.headers["Authorization"] == "Bearer sk-secret-key"
        assert asked.headers["X-Token"] == "token-of-mine"
        return Reply(status=401, error={"message": "wrong: sk-secret-key, hidden-too, token-of-mine"})

    server.script = script
    engine = start(server, engine="big", key_variable="THE_KEY", query=query, headers=headers)
    with pytest.raises(ServerError, match=r"wrong: \[hidden\], \[hidden\], \[hidden\] \(401\)"):
        events_of(engine)
    assert server.asked[-1].path == "/v1/chat/completions?api=hidden-too"
    shown = repr(engine._client.endpoint)
    assert not any(secret in shown for secret in ("secret", "hidden-too", "token-of-mine"))


def test_opening_finds_model_kind_and_context(server: FakeServer) -> None:
    server.models = [{"id": "qwen", "owned_by": "vllm", "max_model_len": 4096}]
    stages: list[LoadProgress] = []
    engine = open_remote_engine(parse_endpoint(server.url), stages.append)
    try:
        info = engine.info
        assert (info.name, info.backend, info.ctx_size) == ("qwen", "remote (vllm)", 4096)
        assert info.host.startswith("127.0.0.1:")
        assert info.capabilities.continues
        assert not info.capabilities.tokens
        assert [one.stage for one in stages] == ["connecting"]
    finally:
        engine.close()
        engine.close()
    server.models += [{"id": "other"}]
    with pytest.raises(
        SentenceError, match=r"name one of the server's models behind a #. It has qwen, other"
    ):
        open_remote_engine(parse_endpoint(server.url), stages.append)


def test_a_chat_on_this_machine_does_without_the_http_client() -> None:
    import subprocess
    import sys

    modules = "chat_app.tui.app, chat_app.engines.sources, chat_app.console.oneshot, chat_app.commands.batch"
    code = f"import sys, {modules}; print(sorted({{'httpx2', 'ray', 'keyring'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
