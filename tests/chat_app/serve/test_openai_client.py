"""OpenAI's own client against the server."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from chat_app.openai.requests import parse_generation
from llama_core.events import Finished, TextDelta
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.templates.chat_template import SYSTEM_FOLDED
from tests.chat_app.serve.conftest import Served, Start

ASKED: list[Any] = [{"role": "user", "content": "the the"}]
GREEDY: dict[str, Any] = {"model": "tiny-chat", "messages": ASKED, "temperature": 0, "max_tokens": 24}


def alone(served: Served, **changes: Any) -> tuple[str, int]:
    """The text of the same chat from the engine by itself, and its tokens."""
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 24, **changes})
    events = list(served.engine.chat(ASKED, params))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert isinstance(events[-1], Finished)
    return text, len(events[-1].ids)


def test_a_chat_is_what_the_engine_says_alone(served: Served) -> None:
    answer = served.client().chat.completions.create(**GREEDY)
    text, n = alone(served)
    assert answer.object == "chat.completion"
    assert answer.model == "tiny-chat"
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == n == 24
    assert answer.usage.prompt_tokens == len(served.engine.encode_chat(ASKED))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + n


def test_a_system_prompt_without_a_place_is_told_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with start() as served:
        template = served.engine.template
        assert template is not None
        refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        monkeypatch.setattr(template, "source", refuses + template.source)
        monkeypatch.setattr(template, "folds_system", False)
        asked = {**GREEDY, "messages": [{"role": "system", "content": "Be brief."}, *ASKED], "max_tokens": 2}
        served.client().chat.completions.create(**{**GREEDY, "max_tokens": 2})
        warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert SYSTEM_FOLDED not in warned
        for _ in range(2):
            served.client().chat.completions.create(**asked)
        warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert warned.count(SYSTEM_FOLDED) == 1


def test_a_stream_is_the_same_text_in_pieces(served: Served) -> None:
    stream = served.client().chat.completions.create(
        **GREEDY, stream=True, stream_options={"include_usage": True}
    )
    pieces = list(stream)
    assert pieces[0].choices[0].delta.role == "assistant"
    texts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    assert "".join(texts) == alone(served)[0]
    assert sum(bool(text) for text in texts) > 5
    reasons = [piece.choices[0].finish_reason for piece in pieces if piece.choices]
    assert reasons[-1] == "length"
    assert set(reasons[:-1]) == {None}
    assert pieces[-1].choices == []
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 24


def test_a_completion_of_text_and_of_ids(served: Served) -> None:
    client = served.client()
    text = client.completions.create(model="tiny-chat", prompt="the the", temperature=0, max_tokens=6)
    ids = served.engine.encode_raw("the the")
    by_ids = client.completions.create(model="tiny-chat", prompt=ids, temperature=0, max_tokens=6)
    assert text.choices[0].text == by_ids.choices[0].text != ""
    assert text.object == "text_completion"


def test_log_probabilities_are_those_of_the_model(served: Served) -> None:
    answer = served.client().chat.completions.create(**GREEDY, logprobs=True, top_logprobs=4)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert len(found.content) == 24
    prompt = served.engine.encode_chat(ASKED)
    cache = served.engine.model.new_cache(512)
    logits = served.engine.model.forward(np.array(prompt, np.int32), cache).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    best = np.sort(logprobs)[::-1][:4]
    first = found.content[0]
    assert first.logprob == pytest.approx(best[0], abs=1e-4)
    assert [one.logprob for one in first.top_logprobs] == pytest.approx(best, abs=1e-4)
    text = b"".join(bytes(one.bytes or []) for one in found.content).decode("utf-8", "replace")
    assert text == answer.choices[0].message.content
    streamed = served.client().chat.completions.create(**GREEDY, logprobs=True, stream=True)
    n = 0
    for piece in streamed:
        if piece.choices and piece.choices[0].logprobs is not None:
            n += len(piece.choices[0].logprobs.content or [])
    assert n == 24


def test_n_replies_take_a_seed_and_the_ones_after_it(served: Served) -> None:
    client = served.client()
    several = client.chat.completions.create(**{**GREEDY, "temperature": 1.0}, n=3, seed=7)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    one = client.chat.completions.create(**{**GREEDY, "temperature": 1.0}, seed=8)
    assert one.choices[0].message.content == texts[1]
    pieces = client.chat.completions.create(**{**GREEDY, "temperature": 1.0}, n=3, seed=7, stream=True)
    streamed = ["", "", ""]
    for piece in pieces:
        streamed[piece.choices[0].index] += piece.choices[0].delta.content or ""
    assert streamed == texts


def test_a_stop_string_ends_a_reply_and_is_not_part_of_it(served: Served) -> None:
    text, _ = alone(served)
    stop = text[5:8]
    answer = served.client().chat.completions.create(**GREEDY, stop=stop)
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"messages": []}, 400, "missing_required_parameter", "messages"),
        ({"temperature": "hot"}, 400, "invalid_type", "body.temperature"),
        ({"n": 0}, 400, "invalid_value", "1 to 128"),
        ({"frequency_penalty": 1.5, "quux": 1}, 400, None, "not supported"),
        ({"response_format": {"type": "xml"}}, 400, "unsupported_value", "response_format"),
        ({"messages": [{"role": "user", "content": "the " * 600}]}, 400, "context_length_exceeded", "512"),
        ({"top_logprobs": 3}, 400, "invalid_value", "needs logprobs"),
        ({"stream_options": {"include_usage": True}}, 400, "invalid_value", "needs stream"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, 400, "invalid_value", "exclude each other"),
        ({"thinking_token_budget": -1}, 400, "invalid_value", "0 or more"),
        ({"thinking_budget_tokens": -2}, 400, "invalid_value", "0 or more"),
        (
            {"thinking_token_budget": 1, "thinking_budget_tokens": 1},
            400,
            "invalid_value",
            "exclude each other",
        ),
    ],
)
def test_what_cannot_be_honoured_is_an_error_in_openais_form(
    served: Served, body: dict[str, Any], status: int, code: str | None, says: str
) -> None:
    reply = served.http().post("/v1/chat/completions", json={**GREEDY, **body})
    assert reply.status_code == status
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert code in (None, error["code"])
    assert says in error["message"]


def test_our_own_parameters_stand_beside_openais() -> None:
    asked = {"messages": ASKED, "top_k": 7, "min_p": 0.2, "repeat_penalty": 1.5}
    params = parse_generation("chat", asked).params
    assert (params.top_k, params.min_p, params.repeat_penalty) == (7, 0.2, 1.5)
    assert params.repeat_last_n == SamplingParams().repeat_last_n
    assert parse_generation("chat", {**asked, "repeat_last_n": 9}).params.repeat_last_n == 9
    theirs = parse_generation("chat", {"messages": ASKED, "repetition_penalty": 1.5}).params
    assert (theirs.repeat_penalty, theirs.repeat_last_n) == (1.5, -1)


def test_models_tokenize_health_and_metrics(served: Served) -> None:
    import openai

    client, http = served.client(), served.http()
    assert [model.id for model in client.models.list()] == ["tiny-chat"]
    assert client.models.retrieve("tiny-chat").id == "tiny-chat"
    with pytest.raises(openai.NotFoundError, match="tiny-chat is"):
        client.models.retrieve("gpt")
    ids = http.post("/tokenize", json={"content": "the the<|im_end|>"}).json()["tokens"]
    assert ids == served.engine.tokenizer.encode("the the<|im_end|>")
    special = http.post("/tokenize", json={"content": "the<|im_end|>", "parse_special": True}).json()
    assert special["tokens"][-1] == 2
    assert http.post("/detokenize", json={"tokens": ids}).json() == {"content": "the the<|im_end|>"}
    assert http.post("/detokenize", json={"tokens": [10**9]}).status_code == 400
    assert http.get("/health").json() == {"status": "ok"}
    lines = http.get("/metrics").text.splitlines()
    values = dict(line.split() for line in lines if not line.startswith("#"))
    assert float(values["llama_chat_requests_total"]) > 0
    assert http.get("/nowhere").json()["error"]["type"] == "invalid_request_error"


def test_a_prefix_that_another_request_computed_is_reused(start: Start) -> None:
    with start() as served:
        first = served.client().chat.completions.create(**GREEDY)
        again = served.client().chat.completions.create(**GREEDY)
        assert first.choices[0].message.content == again.choices[0].message.content
        assert first.usage is not None
        assert again.usage is not None
        assert again.usage.prompt_tokens_details is not None
        assert again.usage.prompt_tokens_details.cached_tokens == first.usage.prompt_tokens - 1


def test_a_client_that_hangs_up_frees_its_place(start: Start) -> None:
    with start(max_sequences=1) as served:
        stream = served.client().chat.completions.create(**{**GREEDY, "max_tokens": 400}, stream=True)
        next(iter(stream))
        stream.close()
        answer = served.client().chat.completions.create(**GREEDY)  # needs the only place
        assert answer.usage is not None
        deadline = time.monotonic() + 30
        while served.worker.load().running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert served.worker.load().drawn_tokens < 400


def test_a_full_queue_says_when_to_come_back(start: Start, monkeypatch: Any) -> None:
    """The first request is held in its pass, so that the second must wait and the third finds no room."""
    go = threading.Event()
    with start(max_sequences=1, queue_n=1) as served:
        model = type(served.engine.model)
        whole = model.forward_batch

        def held(*arguments: Any, **more: Any) -> Any:
            assert go.wait(60)
            return whole(*arguments, **more)

        monkeypatch.setattr(model, "forward_batch", held)
        short = {**GREEDY, "max_tokens": 2}
        answers: list[int] = []

        def ask() -> None:
            answers.append(served.http().post("/v1/chat/completions", json=short).status_code)

        threads = []
        for running, waiting in ((1, 0), (1, 1)):
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            deadline = time.monotonic() + 30
            while (served.worker.load().running, served.worker.load().waiting) != (running, waiting):
                assert time.monotonic() < deadline
                time.sleep(0.005)
        refused = served.http().post("/v1/chat/completions", json=GREEDY)
        go.set()
        for thread in threads:
            thread.join()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert answers == [200, 200]


def test_64_clients_at_once_each_get_their_own(served: Served) -> None:
    texts: dict[int, str | None] = {}

    def ask(i: int) -> None:
        changed = {**GREEDY, "messages": [{"role": "user", "content": f"the {i % 8}"}], "max_tokens": 8}
        texts[i] = served.client().chat.completions.create(**changed).choices[0].message.content

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(texts) == 64
    for i in range(64):
        assert texts[i] == texts[i % 8]


def test_16_clients_share_each_pass(start: Start, monkeypatch: Any) -> None:
    """The work that their throughput is made of: as many passes as one client takes, of 16 rows each."""
    n, tokens = 16, 24
    rows: list[int] = []
    go = threading.Event()
    with start(max_sequences=n) as served:
        model = type(served.engine.model)
        whole = model.forward_batch

        def counted(self: Any, sequences: Any, *arguments: Any, **more: Any) -> Any:
            assert go.wait(60)
            rows.append(len(sequences))
            return whole(self, sequences, *arguments, **more)

        monkeypatch.setattr(model, "forward_batch", counted)
        asked = {**GREEDY, "max_tokens": tokens, "extra_body": {"ignore_eos": True}}
        threads = [
            threading.Thread(target=served.client().chat.completions.create, kwargs=asked) for _ in range(n)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while served.worker.load().requests < n:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        go.set()
        for thread in threads:
            thread.join(60)
        drawn, reused = served.worker.load().drawn_tokens, served.worker.load().reused_tokens
    assert drawn == n * tokens
    assert rows.count(n) >= tokens - 3, rows
    assert len(rows) <= tokens + 3, rows
    assert reused > 0


def test_a_slow_reader_holds_up_nobody(start: Start) -> None:
    with start() as served, served.http() as http:
        body = {**GREEDY, "max_tokens": 300, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as slow:
            lines = slow.iter_lines()
            next(lines)
            for _ in range(3):
                assert served.client().chat.completions.create(**GREEDY).choices[0].finish_reason == "length"
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"


def test_a_pass_that_fails_ends_its_requests_and_nothing_else(start: Start, monkeypatch: Any) -> None:
    import openai

    with start() as served:
        model = served.engine.model
        whole = type(model).forward_batch

        def fail(*arguments: Any, **more: Any) -> Any:
            monkeypatch.setattr(type(model), "forward_batch", whole)
            raise RuntimeError("a planted fault")

        monkeypatch.setattr(type(model), "forward_batch", fail)
        with pytest.raises(openai.InternalServerError, match="the engine failed"):
            served.client().chat.completions.create(**GREEDY)
        assert served.client().chat.completions.create(**GREEDY).choices[0].message.content
