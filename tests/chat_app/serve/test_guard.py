"""Who may ask: keys, hosts, origins; and how much."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from chat_app.serve.guard import Policy
from tests.chat_app.serve.conftest import Served, Start
from tests.chat_app.serve.test_openai_client import GREEDY


def test_a_key_is_needed_where_one_is_set(start: Start) -> None:
    import openai

    with start(policy=Policy("127.0.0.1", api_key="sesame")) as served:
        assert served.client("sesame").chat.completions.create(**GREEDY).choices
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            served.client("guess").chat.completions.create(**GREEDY)
        assert served.http().get("/metrics").status_code == 401
        assert served.http().get("/health").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(served: Served, host: str) -> None:
    reply = served.http().get("/v1/models", headers={"Host": host})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "forbidden_host"


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:9", "[::1]:80"])
def test_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    assert served.http().get("/v1/models", headers={"Host": host}).status_code == 200


def test_pages_are_refused_unless_allowed_by_name(start: Start, served: Served) -> None:
    page = "http://localhost:3000"
    refused = served.http().post("/v1/chat/completions", json=GREEDY, headers={"Origin": page})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    with start(policy=Policy("127.0.0.1", origins=frozenset({page}))) as allowing:
        http = allowing.http()
        asked = http.options("/v1/chat/completions", headers={"Origin": page})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == page
        reply = http.post("/v1/chat/completions", json=GREEDY, headers={"Origin": page})
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == page
        assert http.get("/health", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_body_is_bounded_in_size_and_time(start: Start) -> None:
    policy = Policy("127.0.0.1", max_body_bytes=2000, body_timeout_s=0.3)
    with start(policy=policy) as served, served.http() as http:
        assert http.post("/v1/chat/completions", content=b"x" * 3000).status_code == 413

        def drip() -> Any:
            import time

            yield b"{"
            time.sleep(1.5)
            yield b"}"

        try:
            late = http.post("/v1/chat/completions", content=drip())
        except httpx.TransportError:
            return  # answered and closed while the body was still on its way
        assert late.status_code == 408


def test_nothing_of_prompts_replies_or_keys_is_logged(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither where all goes well, nor where a request is refused or a pass fails."""
    import openai

    caplog.set_level(logging.DEBUG, "chat_app")
    caplog.set_level(logging.DEBUG, "llama_core")
    caplog.set_level(logging.DEBUG, "uvicorn")
    asked = {**GREEDY, "messages": [{"role": "user", "content": "xyzzy"}]}
    with start(policy=Policy("127.0.0.1", api_key="sesame")) as served:
        client = served.client("sesame")
        said = client.chat.completions.create(**asked).choices[0].message.content
        assert said
        list(client.chat.completions.create(**asked, stream=True))
        with pytest.raises(openai.AuthenticationError):
            served.client("plugh").chat.completions.create(**asked)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**asked, extra_body={"xyzzy": 1})
        model = type(served.engine.model)

        def fail(*arguments: Any, **more: Any) -> Any:
            raise RuntimeError("a planted fault")

        with monkeypatch.context() as patch:
            patch.setattr(model, "forward_batch", fail)
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(**asked)
    for one in caplog.records:
        one.exc_text = None  # a log file of another test may have left its shorter form
    logged = "\n".join(logging.Formatter().format(one) for one in caplog.records)
    assert "a planted fault" in logged
    assert not any(secret in logged for secret in ("xyzzy", "sesame", "plugh", said))


def test_what_is_no_json_is_said(served: Served) -> None:
    for content in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000):
        reply = served.http().post("/v1/chat/completions", content=content)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "invalid_json"
