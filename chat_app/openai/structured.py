"""What a request wants its reply to be: OpenAI's `response_format`, vLLM's `guided_*` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chat_app.openai.errors import BadRequest, missing, short
from llama_core.constraints.grammar import JSON_OBJECT, Grammar

FIELDS = ("response_format", "guided_json", "guided_regex", "guided_grammar", "guided_choice")
MAX_ANSWERS = 256


def parse_grammar(body: Mapping[str, Any]) -> Grammar | None:
    """What the reply is held to; None where nothing is asked for. Raises BadRequest."""
    given = _given(body)
    if len(given) > 1:
        raise BadRequest(f"body.{given[0]} and body.{given[1]} exclude each other", param=f"body.{given[1]}")
    name = field_of(body)
    if name == "response_format":
        return _response_format(body[name])
    if name == "guided_json":
        value = body[name]
        text = value if isinstance(value, str) else json.dumps(value)
        return Grammar("schema", text)
    if name in ("guided_regex", "guided_grammar"):
        if not isinstance(body[name], str):
            raise BadRequest(f"body.{name} is not a string", "invalid_type", f"body.{name}")
        return Grammar("regex" if name == "guided_regex" else "grammar", body[name])
    return None


def field_of(body: Mapping[str, Any]) -> str:
    """The field that says what the reply is held to, or is one of; "" where none does."""
    return next(iter(_given(body)), "")


def _given(body: Mapping[str, Any]) -> list[str]:
    return [name for name in FIELDS if name in body and body[name] != {"type": "text"}]


def parse_answers(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of which the reply is one, as `guided_choice` lists them; none where it is not given."""
    value = body.get("guided_choice", ())
    param = "body.guided_choice"
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) and text for text in value):
        raise BadRequest(f"{param} is no list of strings that are not empty", "invalid_type", param)
    if "guided_choice" in body and not 1 < len(set(value)) == len(value) <= MAX_ANSWERS:
        raise BadRequest(f"{param} has {len(value):,} answers, expected 2 to {MAX_ANSWERS}, all different")
    return tuple(value)


def _response_format(value: Any) -> Grammar | None:
    param = "body.response_format"
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":
        return JSON_OBJECT
    if kind != "json_schema":
        problem = f"{param} = {short(value)} is none of text, json_object, json_schema"
        raise BadRequest(problem, "unsupported_value", param)
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        where = f"{param}.json_schema.schema"
        raise BadRequest(f"{where} is no object", *missing(where, schema))
    return Grammar("schema", json.dumps(schema))
