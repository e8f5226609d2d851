"""Calls of tools in each family's own form, whole and in pieces of every size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat_app.openai.tool_formats import (
    LIST,
    OBJECT,
    TAGGED,
    ToolFormat,
    ToolReader,
    call_grammar,
    tool_format,
)

NAMES = ["weather", "time"]
CALL = {"name": "weather", "arguments": {"city": "Köln", "days": 2}}
OTHER = {"name": "time", "arguments": {}}


def tagged(*calls: Any) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


# (format, text, what is shown, calls)
CASES = [
    (TAGGED, tagged(CALL), "", [CALL]),
    (TAGGED, "Let me look.\n" + tagged(CALL, OTHER), "Let me look.", [CALL, OTHER]),
    (TAGGED, tagged(CALL).removesuffix("\n</tool_call>"), "", [CALL]),
    (TAGGED, "a < b, <tool and <tool_calls> are text", "a < b, <tool and <tool_calls> are text", []),
    (TAGGED, "<tool_call>\nno json\n</tool_call>", "<tool_call>\nno json\n</tool_call>", []),
    (TAGGED, tagged({"name": "rm", "arguments": {}}), tagged({"name": "rm", "arguments": {}}), []),
    (OBJECT, json.dumps({"name": "weather", "parameters": CALL["arguments"]}), "", [CALL]),
    (OBJECT, " \n" + json.dumps({"name": "time", "parameters": {}}), "", [OTHER]),
    (OBJECT, '{"a": 1}', '{"a": 1}', []),
    (OBJECT, "It is {warm}.", "It is {warm}.", []),
    (OBJECT, '{"name": "weather", "parameters": ', '{"name": "weather", "parameters": ', []),
    (LIST, json.dumps([CALL, OTHER]), "", [CALL, OTHER]),
    (LIST, "<|tool_call|>" + json.dumps([CALL]), "", [CALL]),
    (LIST, "[1, 2]", "[1, 2]", []),
    (LIST, "Hello <|tool_call|>", "Hello <|tool_call|>", []),
]


@pytest.mark.parametrize(("form", "text", "shown", "calls"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_calls_and_text_are_told_apart(
    form: ToolFormat, text: str, shown: str, calls: list[dict[str, Any]], size: int
) -> None:
    reader = ToolReader(form, NAMES)
    parts = [reader.push(text[i : i + size]) for i in range(0, len(text), size)]
    assert "".join([*parts, reader.flush()]).rstrip() == shown.rstrip()
    found = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in reader.calls]
    assert found == calls
    assert len({call.id for call in reader.calls}) == len(calls)
    assert [place for place, _ in reader.new_calls()] == list(range(len(calls)))
    assert reader.new_calls() == []


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    reader = ToolReader(TAGGED, NAMES)
    assert reader.push("one two <to") == "one two "
    assert reader.push("day") == "<today"
    plain = ToolReader(None, [])
    assert plain.push('{"name": "weather"') == '{"name": "weather"'
    assert plain.flush() == ""


def test_at_most_one_call_counts_where_one_is_asked_for() -> None:
    reader = ToolReader(TAGGED, NAMES, one=True)
    assert reader.push(tagged(CALL, OTHER)) + reader.flush() == ""
    assert [call.name for call in reader.calls] == ["weather"]


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}<tool_call>{% endif %}", TAGGED),
        ("{% if tools %}<|tool_call|>{% endif %}", LIST),
        ('{% if tools %}{"name": function name, "parameters": ...}{% endif %}', OBJECT),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}", None),
    ],
)
def test_a_family_is_known_by_its_template(template: str, form: ToolFormat | None) -> None:
    assert tool_format(template) == form


@pytest.mark.parametrize("form", [TAGGED, OBJECT, LIST])
@pytest.mark.parametrize("tools", [["weather"], ["weather", "time"]])
def test_what_the_grammar_allows_is_read_as_a_call(form: ToolFormat, tools: list[str]) -> None:
    pytest.importorskip("llguidance")
    import numpy as np

    from llama_core.constraints.guidance import GuidanceGrammars
    from tests.support.word_tokenizer import WordTokenizer

    words = [bytes([i]) for i in range(256)]
    marker = {LIST.opening: 256}
    tokenizer: Any = WordTokenizer([*words, LIST.opening], marker)
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    schema |= {"additionalProperties": False}
    grammar = call_grammar(form, [{"name": name, "parameters": schema} for name in tools], marker)
    constraint: Any = GuidanceGrammars(tokenizer, 257).begin(grammar, frozenset())
    rng, ids = np.random.default_rng(2), []
    while not constraint.complete:
        allowed = np.flatnonzero(constraint.allowed())
        ids.append(int(rng.choice(allowed)))
        constraint.take(ids[-1])
        assert len(ids) < 500
    reader = ToolReader(form, tools)
    assert reader.push(tokenizer.decode(ids)) + reader.flush() == ""
    (call,) = reader.calls
    assert call.name in tools
    assert json.loads(call.arguments)["n"] in (1, 2)
