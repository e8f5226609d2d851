"""OpenAI's batch format: request lines in, result lines out.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
     "body": {"model": "...", "messages": [{"role": "user", "content": "..."}], "max_tokens": 64}}

The same file runs on OpenAI's service, on vLLM (`vllm run-batch`) or on any compatible one. What this
engine cannot honour is an error for its line, never silently left out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_core.sampling_params import SamplingParams

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
ROLES = ("system", "developer", "user", "assistant")
# OpenAI's default for completions; chats go on to the end of the context.
COMPLETION_MAX_TOKENS = 16
MAX_LINE_BYTES = 64 << 20

# Fields without influence on the tokens, and fields that are fine at the value that switches them off.
_IGNORED = frozenset(
    {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "stream": (None, False),
    "stream_options": (None,),
    "echo": (None, False),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "suffix": (None, ""),
    "modalities": (None, ["text"]),
}
# vLLM's names for what OpenAI does not have are taken too.
_PARAMETERS = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "max_tokens"}
    | {"max_completion_tokens", "ignore_eos"}
)


class BadLine(ValueError):  # noqa: N818 - the line is bad, the batch goes on
    """A line that cannot be run; the text says why. `custom_id` where the line still names one."""

    def __init__(self, problem: str, custom_id: str | None = None) -> None:
        self.custom_id = custom_id
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A request line. `messages` for a chat, else `prompt` (text or token ids) for a completion."""

    custom_id: str
    params: SamplingParams
    messages: tuple[Mapping[str, str], ...] | None
    prompt: str | tuple[int, ...] | None


def parse_job(line: bytes) -> BatchJob:
    """One line of the input. Raises BadLine."""
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"the line has {len(line):,} bytes, the limit is {MAX_LINE_BYTES:,}")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"it is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadLine("it is not a JSON object")
    custom_id = record.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadLine("custom_id is missing or not a string")
    try:
        return _job(custom_id, record)
    except BadLine as error:
        raise BadLine(str(error), custom_id) from None
    except (ValueError, TypeError) as error:
        raise BadLine(f"body: {error}", custom_id) from None


def _job(custom_id: str, record: Mapping[str, Any]) -> BatchJob:
    if record.get("method", "POST") != "POST":
        raise BadLine(f"method is {record['method']!r}, expected 'POST'")
    url, body = record.get("url"), record.get("body")
    if url not in (CHAT, COMPLETION):
        raise BadLine(f"url is {url!r}, expected {CHAT} or {COMPLETION}")
    if not isinstance(body, dict):
        raise BadLine("body is missing or not an object")
    chat = url == CHAT
    payload = "messages" if chat else "prompt"
    for name, value in body.items():
        if name in _NEUTRAL:
            if not any(value == neutral and type(value) is type(neutral) for neutral in _neutral(name)):
                raise BadLine(f"body.{name} = {json.dumps(value)[:80]} is not supported")
        elif name not in _IGNORED and name not in _PARAMETERS and name != payload:
            raise BadLine(f"body.{name} is not supported")
    params = _params(body, None if chat else COMPLETION_MAX_TOKENS)
    if chat:
        return BatchJob(custom_id, params, _messages(body.get("messages")), None)
    return BatchJob(custom_id, params, None, _prompt(body.get("prompt")))


def _neutral(name: str) -> tuple[Any, ...]:
    """The harmless values of a field; 0 may be written 0.0."""
    values = _NEUTRAL[name]
    return (*values, 0.0) if 0 in values else values


def _number(body: Mapping[str, Any], name: str, default: Any, kind: type = float) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise BadLine(f"body.{name} is {json.dumps(value)[:80]}, expected a number")
    return kind(value)


def _params(body: Mapping[str, Any], max_tokens: int | None) -> SamplingParams:
    """OpenAI's defaults: temperature 1, everything else off."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise BadLine("body.stop is neither a string nor a list of strings")
    if not isinstance(body.get("ignore_eos", False), bool):
        raise BadLine("body.ignore_eos is neither true nor false")
    limit = _number(body, "max_completion_tokens", _number(body, "max_tokens", max_tokens, int), int)
    return SamplingParams(
        temperature=_number(body, "temperature", 1.0),
        top_p=_number(body, "top_p", 1.0),
        top_k=max(0, _number(body, "top_k", 0, int)),  # -1 is vLLM's "off"
        min_p=_number(body, "min_p", 0.0),
        repeat_penalty=_number(body, "repetition_penalty", 1.0),
        repeat_last_n=-1,
        seed=_number(body, "seed", None, int),
        max_tokens=limit,
        stop=tuple(stops),
        ignore_eos=body.get("ignore_eos", False),
    )


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise BadLine("body.messages is missing or empty")
    messages = []
    for i, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadLine(f"body.messages[{i}] has no role of {', '.join(ROLES)}")
        role = "system" if message["role"] == "developer" else message["role"]
        messages.append({"role": role, "content": _content(message.get("content"), i)})
    return tuple(messages)


def _content(value: Any, i: int) -> str:
    """Text, or a list of text parts joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in value
    ):
        return "".join(part["text"] for part in value)
    raise BadLine(f"body.messages[{i}].content is not text")


def _prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        return tuple(value)
    raise BadLine("body.prompt is neither a text nor a list of token ids (one prompt a line)")


def result_line(
    job: BatchJob, *, model: str, created: int, text: str, finish_reason: str, prompt_n: int, reply_n: int
) -> dict[str, Any]:
    """The output record of a finished request."""
    chat = job.messages is not None
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    unique = uuid.uuid4().hex
    body = {
        "id": ("chatcmpl-" if chat else "cmpl-") + unique,
        "object": "chat.completion" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_n,
            "completion_tokens": reply_n,
            "total_tokens": prompt_n + reply_n,
        },
    }
    response = {"status_code": 200, "request_id": unique, "body": body}
    return {"id": f"batch_req_{unique}", "custom_id": job.custom_id, "response": response, "error": None}


def error_line(custom_id: str | None, code: str, message: str, line: int | None) -> dict[str, Any]:
    """The output record of a request that failed; `line` (from 1) where the input itself is at fault."""
    error = {"code": code, "message": message, "line": line}
    return {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": None, "error": error}
