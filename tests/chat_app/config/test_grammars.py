"""Schemas, regular expressions, grammars and biases as flags and files give them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_app.config.grammars import read_bias, read_grammar, read_schema
from chat_app.config.settings import Settings, set_parameter
from chat_app.config.sources import load_settings
from llama_core.constraints.grammar import JSON_OBJECT, Grammar


def test_a_schema_is_given_as_json_as_a_file_or_as_a_word(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"const": "ä"}}}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema, ensure_ascii=False, indent=2), encoding="utf-8")
    assert read_schema(str(file)) == read_schema(json.dumps(schema))
    found = read_schema(str(file))
    assert found is not None
    assert json.loads(found.text) == schema
    assert read_schema("json") == JSON_OBJECT


def test_a_grammar_is_a_file_or_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "yes.gbnf"
    file.write_text('root ::= "yes"\n')
    assert read_grammar(str(file)) == Grammar("grammar", 'root ::= "yes"\n')
    assert read_grammar('root ::= "yes"') == Grammar("grammar", 'root ::= "yes"')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("nowhere.json", "cannot be read: No such file"),
        ("a\0b", "cannot be read"),
        ("list.json", "no JSON object"),
        ("latin.json", "no UTF-8"),
        ("deep.json", "is not JSON"),
        (".", "cannot be read"),
    ],
)
def test_what_is_no_schema_is_told(
    text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1]")
    Path("latin.json").write_bytes(b"\xe4")
    Path("deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=sentence):
        read_schema(text)


def test_a_bias_is_an_object_of_numbers() -> None:
    assert read_bias('{"12": -3, "4": 1.5}') == ((4, 1.5), (12, -3.0))
    for wrong in ("[]", '{"a": 1}', '{"1": true}', '{"1": "2"}'):
        with pytest.raises(ValueError, match=r"JSON object|by token id"):
            read_bias(wrong)
    for large in ('{"1": 1%s}' % ("0" * 400), '{"%s": 1}' % ("9" * 5000)):
        with pytest.raises(ValueError, match="too large"):
            read_bias(large)
    with pytest.raises(ValueError, match="logit_bias"):
        set_parameter(Settings(), "logit_bias", '{"1": 1000}')


def test_a_flag_takes_back_what_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CHAT_REGEX", "[0-9]+")
    assert load_settings().params.grammar == Grammar("regex", "[0-9]+")
    assert load_settings({"schema": None}).params.grammar is None
