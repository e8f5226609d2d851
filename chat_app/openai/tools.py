"""What a request says of tools: those there are, which must be called, and earlier calls in its messages."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from chat_app.openai.errors import BadRequest, missing, short

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_TOOLS = 128


def parse_tools(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The functions of the request, as templates take them: {"type": "function", "function": {...}}. Raises
    BadRequest."""
    value = body.get("tools", ())
    if not isinstance(value, list | tuple) or len(value) > MAX_TOOLS:
        problem = f"body.tools is no list of at most {MAX_TOOLS} tools"
        raise BadRequest(problem, "invalid_type", "body.tools")
    for i, tool in enumerate(value):
        where = f"body.tools[{i}]"
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise BadRequest(f"{where} is not of the type function", "unsupported_value", where)
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not NAME.fullmatch(name):
            where = f"{where}.function.name"
            raise BadRequest(f"{where} is no name of letters, digits, _ and -", *missing(where, name))
        if not isinstance(function.get("parameters", {}), dict):
            where = f"{where}.function.parameters"
            raise BadRequest(f"{where} is no JSON schema", "invalid_type", where)
    return tuple(value)


def parse_tool_choice(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> str:
    """ "none", "auto", "required", or "=" and the name of the tool to be called. Raises BadRequest."""
    value = body.get("tool_choice", "auto" if tools else "none")
    param = "body.tool_choice"
    if value in ("none", "auto") and isinstance(value, str):
        return value
    if not tools:
        raise BadRequest(f"{param} needs body.tools", param=param)
    if value == "required":
        return "required"
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name not in [tool["function"]["name"] for tool in tools]:
        problem = f"{param} = {short(value)} is none of none, auto, required, or a function of body.tools"
        raise BadRequest(problem, param=param)
    return f"={name}"


def parse_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls of an assistant's message as templates take them: arguments as an object, where the text is
    one. Raises BadRequest."""
    if not isinstance(value, list) or not value:
        raise BadRequest(f"{where} is no list of calls", "invalid_type", where)
    calls = []
    for i, call in enumerate(value):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        arguments = function.get("arguments", "{}") if isinstance(function, dict) else None
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(arguments, str | dict):
            raise BadRequest(f"{where}[{i}] is no call of a function", "invalid_type", f"{where}[{i}]")
        if isinstance(arguments, str):
            # A model wrote it: what is no JSON reaches the template as text.
            with contextlib.suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        identity = call.get("id")
        calls.append(
            {
                "id": identity if isinstance(identity, str) else "",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return calls
