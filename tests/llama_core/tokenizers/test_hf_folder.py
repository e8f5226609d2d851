"""The files beside `tokenizer.json` name the special tokens and carry the chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_core.tokenizers.from_files import tokenizer_from_json

TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    "added_tokens": [
        {"id": 2, "content": "<s>", "special": True},
        {"id": 3, "content": "</s>", "special": True},
        {"id": 4, "content": "<end>", "special": True},
    ],
}
BEGIN = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
}


def folder(tmp_path: Path, **files: Any) -> Path:
    """A folder with these files (JSON, or text for the template); the tokenizer is there by default."""
    named = {"tokenizer": TOKENIZER} | files
    for name, value in named.items():
        if name == "chat_template":
            (tmp_path / "chat_template.jinja").write_text(value, encoding="utf-8")
        else:
            (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return tmp_path / "tokenizer.json"


def test_alone_it_names_no_roles(tmp_path: Path) -> None:
    tokenizer, template = tokenizer_from_json(folder(tmp_path))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos, template) == (None, None, False, None)
    assert tokenizer.stop_ids == {3}  # </s> is a well-known name


def test_tokens_as_text_and_as_objects(tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "eos_token": {"content": "<end>", "special": True}, "add_bos_token": True}
    tokenizer, _ = tokenizer_from_json(folder(tmp_path, tokenizer_config=config))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos) == (2, 4, True)
    assert tokenizer.stop_ids == {3, 4}


def test_the_post_processor_tells_whether_a_prompt_begins(tmp_path: Path) -> None:
    path = folder(tmp_path, tokenizer=TOKENIZER | {"post_processor": BEGIN})
    assert tokenizer_from_json(path)[0].add_bos
    path = folder(tmp_path, tokenizer_config={"add_bos_token": False, "bos_token": "<s>"})
    assert not tokenizer_from_json(path)[0].add_bos


@pytest.mark.parametrize("ids", [4, [3, 4]])
def test_generation_config_names_more_ends(tmp_path: Path, ids: Any) -> None:
    path = folder(tmp_path, generation_config={"eos_token_id": ids})
    assert tokenizer_from_json(path)[0].stop_ids == {3, 4}


def test_older_places_are_read_where_the_newer_say_nothing(tmp_path: Path) -> None:
    special_map = {"bos_token": {"content": "<s>"}, "eos_token": "<end>"}
    path = folder(tmp_path, special_tokens_map=special_map, config={"eos_token_id": [1, 3]})
    tokenizer, _ = tokenizer_from_json(path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (2, 4, {1, 3, 4})
    # What newer files say counts alone.
    path = folder(
        tmp_path,
        tokenizer_config={"eos_token": "</s>", "bos_token": None},
        generation_config={"eos_token_id": 0},
    )
    tokenizer, _ = tokenizer_from_json(path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (2, 3, {0, 3})


def test_end_tokens_of_the_model_s_config_alone(tmp_path: Path) -> None:
    assert tokenizer_from_json(folder(tmp_path, config={"eos_token_id": 4}))[0].stop_ids == {3, 4}
    assert tokenizer_from_json(folder(tmp_path, config={"eos_token_id": None}))[0].stop_ids == {3}


def test_where_the_template_comes_from(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert tokenizer_from_json(folder(tmp_path, tokenizer_config={"chat_template": "S"}))[1] == "S"
    assert tokenizer_from_json(folder(tmp_path, tokenizer_config={"chat_template": named}))[1] == "D"
    assert tokenizer_from_json(folder(tmp_path, chat_template="{{ own }}"))[1] == "{{ own }}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer_config", []),
        ("tokenizer_config", {"bos_token": 1}),
        ("tokenizer_config", {"add_bos_token": "yes"}),
        ("tokenizer_config", {"chat_template": 5}),
        ("generation_config", {"eos_token_id": "x"}),
        ("generation_config", 3),
        ("special_tokens_map", {"eos_token": 1}),
        ("config", {"eos_token_id": [1.5]}),
    ],
)
def test_broken_files_are_named(name: str, value: Any, tmp_path: Path, refused: Callable[[str], Any]) -> None:
    with refused(name):
        tokenizer_from_json(folder(tmp_path, **{name: value}))
