"""What OpenAI's API answers: completions whole and in pieces, log-probabilities, errors.

Source: OpenAI's API reference. What is ours stands beside it under names that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat_app.openai.requests import Kind
from chat_app.openai.tool_formats import ToolCall
from llama_core.engine.batch.request import BatchReason, DrawnToken
from llama_core.engine.scoring import Answer, ScoredAnswer

# The text and the bytes of a token.
Describe = Callable[[int], tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice, whole. `logprobs` as `logprobs_of` made them, or None. thought: the reasoning before the
    text, which others call `reasoning_content` (DeepSeek's API; vLLM and llama.cpp follow it). answers: of a
    request that had some scored, as `answers_of` made them."""

    text: str
    reason: BatchReason
    logprobs: dict[str, Any] | None = None
    thought: str = ""
    calls: Sequence[ToolCall] = ()
    answers: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a prompt, how many of them were known already, and of all its replies."""

    prompt_n: int
    cached_n: int
    reply_n: int

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form, with the share of the prompt that was known already."""
        return {
            "prompt_tokens": self.prompt_n,
            "completion_tokens": self.reply_n,
            "total_tokens": self.prompt_n + self.reply_n,
            "prompt_tokens_details": {"cached_tokens": self.cached_n},
        }


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of an answer repeats. `created` in seconds since 1970."""

    kind: Kind
    id: str
    created: int
    model: str

    def to_json(self, *, piece: bool = False) -> dict[str, Any]:
        """OpenAI's form; `piece` is one of several parts of a stream."""
        kind = "text_completion"
        if self.kind == "chat":
            kind = "chat.completion.chunk" if piece else "chat.completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def finish_reason(reason: BatchReason, *, calls: bool = False) -> str:
    """OpenAI knows "stop", "tool_calls" and "length"; a full context is a length."""
    if reason != "stop":
        return "length"
    return "tool_calls" if calls else "stop"


def answers_of(scores: Sequence[ScoredAnswer], texts: Mapping[Answer, str]) -> list[dict[str, Any]]:
    """Scored answers, likeliest first."""
    ranked = sorted(scores, key=lambda one: -one.logprob)
    return [
        {"text": texts[one.ids], "probability": one.probability, "logprob": one.logprob} for one in ranked
    ]


def whole(head: Head, replies: Sequence[Reply], usage: Usage) -> dict[str, Any]:
    """An answer that is not streamed."""
    choices = []
    for index, reply in enumerate(replies):
        reason = finish_reason(reply.reason, calls=bool(reply.calls))
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": reply.logprobs}
        if reply.answers:
            choice["answers"] = list(reply.answers)
        if head.kind == "chat":
            choice["message"] = _message(reply)
        else:
            choice["text"] = reply.text
        choices.append(choice)
    return {**head.to_json(), "choices": choices, "usage": usage.to_json()}


def _message(reply: Reply) -> dict[str, Any]:
    """The assistant's message; one that is nothing but calls has no content."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.thought:
        message["reasoning_content"] = reply.thought
    if reply.calls:
        message["content"] = reply.text or None
        message["tool_calls"] = [call.to_json() for call in reply.calls]
    return message


def piece(
    head: Head,
    index: int,
    text: str | None,
    *,
    first: bool = False,
    thought: bool = False,
    reason: BatchReason | None = None,
    logprobs: dict[str, Any] | None = None,
    calls: Sequence[tuple[int, ToolCall]] = (),
    called: bool = False,
    answers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A part of a streamed answer: text, a `thought`, calls with their places, or with `reason` its end.
    called: there were calls; answers: those that were scored."""
    choice: dict[str, Any] = {"index": index, "logprobs": logprobs}
    choice["finish_reason"] = None if reason is None else finish_reason(reason, calls=called)
    if answers:
        choice["answers"] = list(answers)
    if head.kind == "chat":
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if text is not None:
            delta["reasoning_content" if thought else "content"] = text
        if calls:
            delta["tool_calls"] = [{"index": i, **call.to_json()} for i, call in calls]
        choice["delta"] = delta
    else:
        choice["text"] = text or ""
    return {**head.to_json(piece=True), "choices": [choice]}


def usage_piece(head: Head, usage: Usage) -> dict[str, Any]:
    """The last part of a stream whose client asked for usage: no choice."""
    return {**head.to_json(piece=True), "choices": [], "usage": usage.to_json()}


def logprobs_of(kind: Kind, tokens: Sequence[DrawnToken], describe: Describe) -> dict[str, Any]:
    """The log-probabilities of tokens in the form of a chat, or of a completion."""
    if kind == "chat":
        return {"content": [_chat_token(token, describe) for token in tokens], "refusal": None}
    texts = [describe(token.id)[0] for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{describe(id)[0]: value for id, value in token.top} for token in tokens],
        "text_offset": [sum(map(len, texts[:i])) for i in range(len(texts))],
    }


def _chat_token(token: DrawnToken, describe: Describe) -> dict[str, Any]:
    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        text, data = describe(token_id)
        return {"token": text, "logprob": logprob, "bytes": list(data)}

    return {
        **entry(token.id, token.logprob),
        "top_logprobs": [entry(token_id, value) for token_id, value in token.top],
    }


def error_body(
    message: str, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
