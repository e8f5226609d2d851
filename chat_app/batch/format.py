"""OpenAI's batch format: the request lines.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
     "body": {"model": "...", "messages": [{"role": "user", "content": "..."}], "max_tokens": 64}}

The same file runs on OpenAI's service, on vLLM (`vllm run-batch`) or on any compatible one. What this
engine cannot honour is an error for its line, never silently left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from chat_app.batch.identity import request_sha256
from chat_app.openai.errors import BadRequest, missing, short
from chat_app.openai.requests import Generation, Kind, parse_generation

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
KINDS: Mapping[str, Kind] = {CHAT: "chat", COMPLETION: "completion"}
SENT_TO = (CHAT, COMPLETION, "/v1/embeddings")
# Of a whole number: Python refuses those of more digits than its own limit, which can be as low as 640.
MAX_DIGITS = 600

T = TypeVar("T")


class BadLine(ValueError):  # noqa: N818 - the line is bad, the batch goes on
    """A line that cannot be run; the text says why, `code` and `param` in OpenAI's words for it.

    custom_id and request_sha256 where the line still has them.
    """

    custom_id: str | None = None
    request_sha256 = ""

    def __init__(self, problem: str, code: str = "invalid_value", param: str | None = None) -> None:
        self.code, self.param = code, param
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A request line, and the SHA-256 of what it asks for."""

    custom_id: str
    request_sha256: str
    asked: Generation


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request line for a server: its `body` is the server's to judge."""

    custom_id: str
    request_sha256: str
    url: str
    body: Mapping[str, Any]


Asked = BatchJob | SentRequest


def parse_job(line: bytes) -> BatchJob:
    """One line of the input, for the engine of this machine. Raises BadLine."""
    return _parsed(line, _job)


def parse_sent(line: bytes) -> SentRequest:
    """One line of the input, for a server. Raises BadLine."""
    return _parsed(line, _sent)


def _parsed(line: bytes, read: Callable[[str, str, Mapping[str, Any]], T]) -> T:
    try:
        record, digits = _read(line)
        if not isinstance(record, dict):
            raise BadLine("it is not a JSON object", "invalid_json_line")
        digest = request_sha256(record) if digits <= MAX_DIGITS else ""
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadLine):
            raise
        raise BadLine(f"it is not JSON: {error}", "invalid_json_line") from None
    custom_id = record.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadLine("custom_id is missing or not a string", *missing("custom_id", custom_id))
    try:
        if digits > MAX_DIGITS:
            raise BadLine(f"it holds a number of {digits:,} digits, the limit is {MAX_DIGITS}")
        return read(custom_id, digest, record)
    except (BadLine, BadRequest) as error:
        bad = error if isinstance(error, BadLine) else BadLine(str(error), error.code, error.param)
        bad.custom_id, bad.request_sha256 = custom_id, digest
        raise bad from None


def _read(line: bytes) -> tuple[Any, int]:
    """What the JSON says, and the digits of its longest whole number; one of more than MAX_DIGITS is read as
    0, so that the rest of the line, with its custom_id, is read too. Raises ValueError, RecursionError."""
    longest = 0

    def whole_number(text: str) -> int:
        nonlocal longest
        digits = len(text.lstrip("-"))
        longest = max(longest, digits)
        return int(text) if digits <= MAX_DIGITS else 0

    record = json.loads(line, parse_float=_float, parse_int=whole_number)
    return record, longest


def _float(text: str) -> float | int:
    """JSON has one kind of number: 3.0 is 3, as a limit and for whether two requests are the same."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _job(custom_id: str, digest: str, record: Mapping[str, Any]) -> BatchJob:
    url, body = _asked(record, KINDS)
    asked = parse_generation(KINDS[url], body)
    for name, unsupported in (
        ("n", asked.n > 1),
        ("stream", asked.stream),
        ("logprobs", asked.top_n is not None),
    ):
        if unsupported:
            problem = f"body.{name} = {short(body[name])} is not supported"
            raise BadLine(problem, "unsupported_value", f"body.{name}")
    return BatchJob(custom_id, digest, asked)


def _sent(custom_id: str, digest: str, record: Mapping[str, Any]) -> SentRequest:
    url, body = _asked(record, SENT_TO)
    if body.get("stream"):
        raise BadLine("body.stream is not supported", "unsupported_value", "body.stream")
    return SentRequest(custom_id, digest, url, body)


def _asked(record: Mapping[str, Any], known: Collection[str]) -> tuple[str, Mapping[str, Any]]:
    """(url, body) of a line."""
    if record.get("method", "POST") != "POST":
        raise BadLine(f"method is {short(record['method'])}, expected 'POST'", param="method")
    url, body = record.get("url"), record.get("body")
    if not isinstance(url, str) or url not in known:
        raise BadLine(f"url is {short(url)}, expected {' or '.join(known)}", param="url")
    if not isinstance(body, dict):
        raise BadLine("body is missing or not an object", *missing("body", body))
    return url, body
