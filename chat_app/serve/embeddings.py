"""`/v1/embeddings`: what a request asks for, and the vectors as it wants them.

Source: OpenAI's API reference. The field `pooling` is ours: it says what the vectors are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chat_app.openai.errors import BadRequest, missing, short
from llama_core.engine.text import TextEngine

MAX_INPUTS = 2048
POOLING = "mean of the last layer's normed hidden states, scaled to length 1"
_KNOWN = frozenset({"input", "model", "user", "encoding_format", "dimensions"})


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """inputs: texts, or their tokens. as_base64: little-endian float32 as text instead of numbers."""

    inputs: tuple[str | tuple[int, ...], ...]
    as_base64: bool


def parse_embeddings(body: Mapping[str, Any], dim: int) -> EmbeddingRequest:
    """The body of a request to a model of width `dim`. Raises BadRequest."""
    body = {name: value for name, value in body.items() if value is not None}
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise BadRequest(f"body.{short(unknown[0])[1:-1]} is not supported", "unknown_parameter", "body")
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        param = "body.encoding_format"
        raise BadRequest(f"{param} is {short(form)}, expected float or base64", param=param)
    if body.get("dimensions", dim) != dim:
        param = "body.dimensions"
        problem = f"{param} is {short(body['dimensions'])}, but this model's vectors have {dim}"
        raise BadRequest(problem, "unsupported_value", param)
    return EmbeddingRequest(_inputs(body.get("input")), form == "base64")


def _inputs(value: Any) -> tuple[str | tuple[int, ...], ...]:
    param = "body.input"
    items = value if isinstance(value, list) and value and not _is_ids(value) else [value]
    if len(items) > MAX_INPUTS:
        raise BadRequest(f"{param} has {len(items):,} texts, expected at most {MAX_INPUTS:,}", param=param)
    if not all(_is_ids(item) or (isinstance(item, str) and item) for item in items):
        problem = f"{param} is neither a text that is not empty, nor token ids, nor a list of such"
        raise BadRequest(problem, *missing(param, value))
    return tuple(item if isinstance(item, str) else tuple(item) for item in items)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


def encode_input(item: str | tuple[int, ...], engine: TextEngine) -> tuple[int, ...]:
    """The tokens of an input; a text begins with BOS where the model asks for it. Raises BadRequest."""
    ids = tuple(engine.encode_raw(item)) if isinstance(item, str) else item
    if len(ids) > engine.ctx_size:
        problem = f"a text of body.input has {len(ids):,} tokens, but the context holds {engine.ctx_size:,}"
        raise BadRequest(problem, "context_length_exceeded", "body.input")
    if max(ids) >= engine.model.config.vocab_size or min(ids) < 0:
        raise BadRequest("body.input holds an id that is no token", param="body.input")
    return ids


def embeddings_json(
    vectors: Sequence[NDArray[np.float32]], asked: EmbeddingRequest, *, model: str, tokens: int
) -> dict[str, Any]:
    """The answer. vectors: (dim,) each, of any length; tokens: of all inputs together."""
    data = []
    for index, vector in enumerate(vectors):
        unit = vector / max(float(np.linalg.norm(vector)), 1e-30)
        numbers: Any = unit.tolist()
        if asked.as_base64:
            numbers = base64.b64encode(unit.astype("<f4").tobytes()).decode("ascii")
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage, "pooling": POOLING}
