"""Kinds of values that say what a reply must be, and what is added to logits: read as every other value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_app.config.values import Kind
from chat_app.text.paths import read_path
from llama_core.constraints.grammar import JSON_OBJECT, Grammar, GrammarKind

MAX_BYTES = 1 << 20


def read_schema(text: str) -> Grammar | None:
    """A JSON schema, "json" for any object, or the name of a file with a schema in it. Raises ValueError."""
    if text.strip().lower() == "json":
        return JSON_OBJECT
    source, where = (text, "it") if text.lstrip().startswith("{") else (_file(text), text)
    return Grammar("schema", json.dumps(_json_object(source, where)))


def read_grammar(text: str) -> Grammar | None:
    """A file with a grammar in Lark's or llama.cpp's notation, or the grammar itself. Raises ValueError."""
    return Grammar("grammar", text if "\n" in text or "::=" in text else _file(text))


def read_bias(text: str) -> tuple[tuple[int, float], ...]:
    """A JSON object of numbers by token id. Raises ValueError."""
    pairs = _json_object(text, "it")
    if not all(id.isdecimal() and type(value) in (int, float) for id, value in pairs.items()):
        raise ValueError('takes numbers by token id, as in {"42": -5}')
    try:
        return tuple(sorted((int(id), float(value)) for id, value in pairs.items()))
    except (OverflowError, ValueError):  # hundreds of digits; thousands of them are no int
        raise ValueError("an id or a number in it is too large") from None


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no JSON object")
    return value


def _file(name: str) -> str:
    path: Path = read_path(name)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the file {name} cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"the file {name} is larger than {MAX_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8 text") from None


def _or_none(read: Callable[[str], Grammar | None]) -> Callable[[str], Grammar | None]:
    return lambda text: None if text.strip().lower() == "none" else read(text)


def _regex(text: str) -> Grammar:
    kind: GrammarKind = "regex"
    return Grammar(kind, text)


SCHEMA = Kind(_or_none(read_schema), "a JSON schema, a file of one, json, none", "FILE|JSON")
REGEX = Kind(_or_none(_regex), "a regular expression, none", "REGEX")
GRAMMAR = Kind(_or_none(read_grammar), "a file, none", "FILE")
BIAS = Kind(read_bias, "a JSON object of numbers by token id", "JSON")
