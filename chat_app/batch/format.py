"""OpenAI's batch format: the request lines.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
     "body": {"model": "...", "messages": [{"role": "user", "content": "..."}], "max_tokens": 64}}

The same file runs on OpenAI's service, on vLLM (`vllm run-batch`) or on any compatible one. What this
engine cannot honour is an error for its line, never silently left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_app.batch.identity import request_sha256
from llama_core.sampling_params import SamplingParams

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
ROLES = ("system", "developer", "user", "assistant")
# OpenAI's default for completions; chats go on to the end of the context.
COMPLETION_MAX_TOKENS = 16
# Of a whole number: Python refuses those of more digits than its own limit, which can be as low as 640.
MAX_DIGITS = 600

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
    """A request line. `messages` for a chat, else `prompt` (text or token ids) for a completion."""

    custom_id: str
    request_sha256: str
    params: SamplingParams
    messages: tuple[Mapping[str, str], ...] | None
    prompt: str | tuple[int, ...] | None


def short(value: Any) -> str:
    """A value from a line for a message: as JSON, and not without end."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"


def parse_job(line: bytes) -> BatchJob:
    """One line of the input. Raises BadLine."""
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
        raise BadLine("custom_id is missing or not a string", *_missing("custom_id", custom_id))
    try:
        if digits > MAX_DIGITS:
            raise BadLine(f"it holds a number of {digits:,} digits, the limit is {MAX_DIGITS}")
        return _job(custom_id, digest, record)
    except (ValueError, TypeError) as error:
        bad = error if isinstance(error, BadLine) else BadLine(f"body: {error}", param="body")
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


def _missing(param: str, value: Any) -> tuple[str, str]:
    """(code, param) of a field that is not there, or is there as something else."""
    return "missing_required_parameter" if value is None else "invalid_type", param


def _job(custom_id: str, digest: str, record: Mapping[str, Any]) -> BatchJob:
    if record.get("method", "POST") != "POST":
        raise BadLine(f"method is {short(record['method'])}, expected 'POST'", param="method")
    url, body = record.get("url"), record.get("body")
    if url not in (CHAT, COMPLETION):
        raise BadLine(f"url is {short(url)}, expected {CHAT} or {COMPLETION}", param="url")
    if not isinstance(body, dict):
        raise BadLine("body is missing or not an object", *_missing("body", body))
    chat = url == CHAT
    _check_fields(body, "messages" if chat else "prompt")
    params = _params(body, None if chat else COMPLETION_MAX_TOKENS)
    if chat:
        return BatchJob(custom_id, digest, params, _messages(body.get("messages")), None)
    return BatchJob(custom_id, digest, params, None, _prompt(body.get("prompt")))


def _check_fields(body: Mapping[str, Any], payload: str) -> None:
    for name, value in body.items():
        if name in _NEUTRAL:
            if not any(value == neutral and type(value) is type(neutral) for neutral in _NEUTRAL[name]):
                problem = f"body.{name} = {short(value)} is not supported"
                raise BadLine(problem, "unsupported_value", f"body.{name}")
        elif name not in _IGNORED and name not in _PARAMETERS and name != payload:
            raise BadLine(f"body.{short(name)[1:-1]} is not supported", "unknown_parameter", "body")


def _number(body: Mapping[str, Any], name: str, default: Any, kind: type = float) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        expected = "a whole number" if kind is int else "a number"
        raise BadLine(f"body.{name} is {short(value)}, expected {expected}", "invalid_type", f"body.{name}")
    try:
        return kind(value)
    except OverflowError:
        raise BadLine(f"body.{name} is {short(value)}, which is out of range", param=f"body.{name}") from None


def _params(body: Mapping[str, Any], max_tokens: int | None) -> SamplingParams:
    """OpenAI's defaults: temperature 1, everything else off; null stands for the default."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise BadLine("body.stop is neither a string nor a list of strings", "invalid_type", "body.stop")
    ignore_eos = body.get("ignore_eos")
    if ignore_eos is not None and not isinstance(ignore_eos, bool):
        raise BadLine("body.ignore_eos is neither true nor false", "invalid_type", "body.ignore_eos")
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
        ignore_eos=bool(ignore_eos),
    )


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise BadLine("body.messages is missing or empty", *_missing("body.messages", value or None))
    messages = []
    for i, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            where = f"body.messages[{i}]"
            raise BadLine(f"{where} has no role of {', '.join(ROLES)}", param=where)
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
    where = f"body.messages[{i}].content"
    raise BadLine(f"{where} is not text", "invalid_type", where)


def _prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        return tuple(value)
    problem = "body.prompt is neither a text nor a list of token ids (one prompt a line)"
    raise BadLine(problem, *_missing("body.prompt", value))
