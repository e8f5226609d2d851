"""How families of models write calls of tools, and their text taken apart.

    Hermes, Qwen 2.5 and 3, Granite 4     <tool_call>{"name": "f", "arguments": {...}}</tool_call>, any number
    Llama 3.1 to 3.3                      {"name": "f", "parameters": {...}}, the whole reply
    Granite 3                             <|tool_call|>[{"name": "f", "arguments": {...}}, ...]

A family is known by what its chat template spells. Source: the templates that are published with the models.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_core.constraints.grammar import Grammar

Form = Literal["tagged", "object", "list"]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """form: calls between tags amid other text, one object alone, or a list. opening, closing: what stands
    around a call; arguments: the key of the arguments."""

    form: Form
    opening: str
    closing: str
    arguments: str


TAGGED = ToolFormat("tagged", "<tool_call>", "</tool_call>", "arguments")
OBJECT = ToolFormat("object", "", "", "parameters")
# White space of the JSON in published templates, which Python writes.
AS_TEMPLATES_WRITE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
NO_CALLS = ToolFormat("object", "", "", "")
LIST = ToolFormat("list", "<|tool_call|>", "", "arguments")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wrote. arguments: JSON."""

    id: str
    name: str
    arguments: str

    def to_json(self) -> dict[str, Any]:
        """The call as part of a message."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


def tool_format(template: str) -> ToolFormat | None:
    """The format of the family whose chat template this is; None where it is not known, or takes no tools."""
    if "tools" not in template:
        return None
    if LIST.opening in template:
        return LIST
    if TAGGED.opening in template:
        return TAGGED
    return OBJECT if '"parameters"' in template or "<|python_tag|>" in template else None


def call_grammar(
    format: ToolFormat, tools: Sequence[Mapping[str, Any]], special_tokens: Collection[str]
) -> Grammar:
    """A reply that is one call of one of `tools`, with arguments of its schema. tools: functions as a request
    describes them; special_tokens: the texts of tokens that no text spells."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["name"]},
                format.arguments: tool.get("parameters") or {"type": "object"},
            },
            "required": ["name", format.arguments],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    call: dict[str, Any] = {"anyOf": calls} if len(calls) > 1 else calls[0]
    call = {**call, "x-guidance": AS_TEMPLATES_WRITE}
    if format.form == "list":
        call = {
            "type": "array",
            "items": call,
            "minItems": 1,
            "maxItems": 1,
            "x-guidance": AS_TEMPLATES_WRITE,
        }
    opening = format.opening if format.opening in special_tokens else f'"{format.opening}"'
    if not format.opening:
        opening = ""
    lines = ' "\\n"' if format.form == "tagged" else ""
    closing = f'{lines} "{format.closing}"' if format.closing else ""
    return Grammar(
        "grammar", f"%llguidance {{}}\nstart: {opening}{lines} %json {json.dumps(call)}{closing}\n"
    )


class ToolReader:
    """Takes a reply apart as it comes: what is for the user, and the calls.

    names: the tools that there are; what calls another is text. one: at most one call counts. Without a
    format all is text.
    """

    def __init__(self, format: ToolFormat | None, names: Collection[str], *, one: bool = False) -> None:
        self._format = format or NO_CALLS
        self._names = frozenset(names)
        self._one = one
        self._told = 0
        self._held = ""
        self._shown = format is None  # something of the reply is text
        self.calls: list[ToolCall] = []

    def new_calls(self) -> list[tuple[int, ToolCall]]:
        """Calls that were not asked for yet, each with its place among all."""
        told, self._told = self._told, len(self.calls)
        return list(enumerate(self.calls))[told:]

    def push(self, text: str) -> str:
        """The text so far that is certainly no part of a call."""
        self._held += text
        if self._format.form == "tagged":
            return self._tagged()
        return (
            "" if not self._shown and self._may_be_call(self._held.lstrip()) else self._show(len(self._held))
        )

    def flush(self) -> str:
        """What was held back, at the end of the reply, and is no call."""
        if self._format.form == "tagged":
            # A model that stops at its closing tag, or was stopped there, has written the call all the same.
            opening = self._format.opening
            if self._held.startswith(opening) and self._take(self._held.removeprefix(opening)):
                self._held = ""
        elif not self._shown and self._take(self._held.strip().removeprefix(self._format.opening)):
            self._held = ""
        return self._show(len(self._held))

    def _may_be_call(self, text: str) -> bool:
        begins = ("{", "[", self._format.opening or "{")
        return not text or any(text.startswith(one) or one.startswith(text) for one in begins)

    def _tagged(self) -> str:
        opening, closing = self._format.opening, self._format.closing
        shown = ""
        while (at := self._held.find(opening)) >= 0:
            shown += self._show(at)
            body, closed, rest = self._held.removeprefix(opening).partition(closing)
            if not closed:
                return self._without_space(shown)
            if self._take(body):
                self._held = rest.lstrip()
            else:
                shown += self._show(len(self._held) - len(rest))
        keep = next((n for n in range(len(opening) - 1, 0, -1) if self._held.endswith(opening[:n])), 0)
        return self._without_space(shown) + self._show(len(self._held) - keep)

    def _without_space(self, shown: str) -> str:
        """White space between text and a call belongs to neither."""
        return shown.rstrip() if self.calls or self._held.startswith(self._format.opening) else shown

    def _show(self, n: int) -> str:
        text, self._held = self._held[:n], self._held[n:]
        self._shown = self._shown or bool(text.strip())
        return text

    def _take(self, body: str) -> bool:
        """Whether `body` is a call, or a list of them, of tools that there are; they are taken then."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return False
        found = [self._call(one) for one in (value if isinstance(value, list) else [value])]
        calls = [call for call in found if call is not None]
        if not calls or len(calls) < len(found):
            return False
        self.calls = [*self.calls, *calls][: 1 if self._one else None]
        return True

    def _call(self, value: Any) -> ToolCall | None:
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return ToolCall(f"call_{uuid.uuid4().hex[:24]}", value["name"], text)
