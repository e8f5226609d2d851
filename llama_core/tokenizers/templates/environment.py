"""The Jinja environment that chat templates expect: Hugging Face's conventions, in Jinja's sandbox.

Imported by the worker process alone (`program.py`): Jinja costs 40 ms and has no limits of its own.
Source: the chat template documentation of Hugging Face transformers.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class RefusedByTemplateError(JinjaError):
    """The template called `raise_exception`: its author's words about this conversation."""


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training. Rendering needs of it only that what is
    set inside stays inside, as in the call block that transformers makes of it."""

    tags = {"generation"}  # noqa: RUF012 - Jinja reads it from the class

    def parse(self, parser: Parser) -> nodes.Scope:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _raise_exception(message: object) -> NoReturn:
    raise RefusedByTemplateError(str(message))


def _strftime_now(date_format: str) -> str:
    return datetime.now().astimezone().strftime(date_format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter escapes `<` and `>` for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def chat_environment() -> ImmutableSandboxedEnvironment:
    """A sandbox with the extensions, functions and white-space rules of chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def explain(error: BaseException) -> str:
    """A sentence for a person about what went wrong in a template."""
    if isinstance(error, RefusedByTemplateError):
        return f"The model's chat template refuses this conversation: {error}"
    if isinstance(error, RecursionError):
        return "The model's chat template nests too deeply or calls itself without end."
    if isinstance(error, MemoryError):
        return "The model's chat template needs too much memory."
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if isinstance(line, int) else ""
    return f"The model's chat template failed{where}: {type(error).__name__}: {str(error)[:500]}"
