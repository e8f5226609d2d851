"""The result lines of a batch, in OpenAI's format; ours (what the result belongs to) stands under `x`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from chat_app.batch.format import Asked, BadLine, BatchJob, SentRequest
from chat_app.batch.identity import Computation, ModelIdentity
from chat_app.batch.reader import Line

if TYPE_CHECKING:
    from chat_app.engines.remote.client import ServerError
    from chat_app.openai.errors import BadRequest
    from chat_app.openai.prepared import Prepared
    from llama_core.engine.batch.text import TextResult
    from llama_core.errors import LlamaCoreError

# Whose fault it is, in OpenAI's words: the request's, or of what ran it.
_INVALID, _OURS = "invalid_request_error", "server_error"


def answer_record(
    job: BatchJob,
    identity: ModelIdentity,
    computation: Computation,
    prepared: Prepared,
    result: TextResult,
    *,
    model: str,
    created: int,
) -> dict[str, Any]:
    """The record of an answered request. `created` in seconds since 1970."""
    from chat_app.openai.responses import Head, Reply, Usage, answers_of, whole
    from chat_app.openai.tool_formats import ToolReader

    asked, unique = job.asked, uuid.uuid4().hex
    reader = ToolReader(prepared.tools, asked.tool_names, one=asked.one_call)
    text = reader.push(result.text) + reader.flush()
    answers = answers_of(result.scores, prepared.answers)
    head = Head(asked.kind, ("chatcmpl-" if asked.kind == "chat" else "cmpl-") + unique, created, model)
    reply = Reply(text, result.reason, thought=result.thought, calls=reader.calls, answers=answers)
    body = whole(head, [reply], Usage(result.prompt_n, result.cached_n, result.reply_n))
    response = {"status_code": 200, "request_id": unique, "body": body}
    x = _request_x(job, identity) | asdict(computation)
    if asked.params.temperature > 0 and not answers:  # the likeliest token needs none
        x["seed"] = result.seed
    return _record(job.custom_id, response, None, x)


def sent_record(request: SentRequest, identity: ModelIdentity, body: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a request that a server answered with `body`."""
    response = {"status_code": 200, "request_id": uuid.uuid4().hex, "body": body}
    return _record(request.custom_id, response, None, _request_x(request, identity))


def refused_record(request: SentRequest, identity: ModelIdentity, error: ServerError) -> dict[str, Any]:
    """The record of a request that a server refused, or failed at each time."""
    kind = _INVALID if error.is_refusal else _OURS
    details = {
        "code": error.code or f"http_{error.status}",
        "message": str(error),
        "type": error.kind or kind,
        "param": error.param or None,
        "line": None,
    }
    return _record(request.custom_id, None, details, _request_x(request, identity))


def failure_record(job: BatchJob, identity: ModelIdentity, error: LlamaCoreError | None) -> dict[str, Any]:
    """The record of a sound line whose request could not be answered."""
    from llama_core.errors import ContextFullError, NotEnoughMemoryError, NumericalError

    # The template refused it, it is empty, or it holds an id that is no token.
    code, kind = "invalid_prompt", _INVALID
    if isinstance(error, ContextFullError):
        code = "context_length_exceeded"
    elif isinstance(error, NotEnoughMemoryError):
        code, kind = "kv_budget_exceeded", _OURS
    elif isinstance(error, NumericalError):
        code, kind = "server_error", _OURS
    details = {"code": code, "message": str(error), "type": kind, "param": None, "line": None}
    return _record(job.custom_id, None, details, _request_x(job, identity))


def refusal_record(job: BatchJob, identity: ModelIdentity, refusal: BadRequest) -> dict[str, Any]:
    """The record of a sound line that this model cannot honour."""
    details = {
        "code": refusal.code,
        "message": str(refusal),
        "type": _INVALID,
        "param": refusal.param,
        "line": None,
    }
    return _record(job.custom_id, None, details, _request_x(job, identity))


def bad_line_record(error: BadLine, line: Line) -> dict[str, Any]:
    """The record of a line that cannot be run."""
    message = f"line {line.number}: {error}"
    details = {
        "code": error.code,
        "message": message,
        "type": _INVALID,
        "param": error.param,
        "line": line.number,
    }
    return _record(error.custom_id, None, details, {"line_sha256": line.sha256})


def _record(
    custom_id: str | None,
    response: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None,
    x: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
        "x": x,
    }


def _request_x(job: Asked, identity: ModelIdentity) -> dict[str, Any]:
    return {
        "request_sha256": job.request_sha256,
        "model": identity.name,
        "model_sha256": identity.sha256,
    }
