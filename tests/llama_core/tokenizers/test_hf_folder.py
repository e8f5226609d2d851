"""The files beside `tokenizer.json` name the special tokens and carry the chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_core.tokenizers.from_files import tokenizer_from_json
from llama_core.tokenizers.templates.chat_template import ChatTemplate

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


CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"
PLACES: dict[str, dict[str, Any]] = {
    "added_tokens_decoder": {
        "tokenizer_config": {
            "eos_token": "<|im_end|>",
            "added_tokens_decoder": {
                "6": {"content": "<|im_end|>", "special": True},
                "5": {"content": "<|im_start|>", "special": True},
            },
        }
    },
    "added_tokens.json": {
        "added_tokens": {"<|im_start|>": 5, "<|im_end|>": 6},
        "tokenizer_config": {"eos_token": "<|im_end|>"},
    },
    "additional_special_tokens": {
        "tokenizer_config": {
            "eos_token": {"content": "</s>"},
            "additional_special_tokens": ["<|im_start|>", {"content": "<|im_end|>"}],
        }
    },
    "special_tokens_map.json": {
        "special_tokens_map": {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
    },
    "extra_special_tokens": {
        "tokenizer_config": {"extra_special_tokens": {"begin": "<|im_start|>", "end": "<|im_end|>"}},
    },
    "the vocabulary, and the template spells it": {
        "tokenizer": {
            **TOKENIZER,
            "model": TOKENIZER["model"] | {"vocab": {"a": 0, "b": 1, "<|im_start|>": 5, "<|im_end|>": 6}},
        },
    },
}


@pytest.mark.parametrize("files", PLACES.values(), ids=PLACES)
def test_a_marker_is_one_wherever_the_folder_defines_it(files: dict[str, Any], tmp_path: Path) -> None:
    tokenizer, template = tokenizer_from_json(folder(tmp_path, chat_template=CHATML, **files))
    ids = ChatTemplate(template or "").encode([{"role": "user", "content": "ab"}], tokenizer)
    assert ids == [5, 0, 1, 6]
    assert tokenizer.encode("<|im_start|>a", special=True) == [5, 0]
    assert not {5, 6} & set(tokenizer.encode("<|im_start|>a<|im_end|>"))
    assert 6 in tokenizer.stop_ids
    assert (tokenizer.token_bytes(5), tokenizer.token_text(5)) == (b"", "<|im_start|>")


def test_the_places_complete_each_other(tmp_path: Path) -> None:
    config = {
        # The same token under another id: its text has one. One whose id is taken gets the next.
        "added_tokens_decoder": {"9": {"content": "<end>"}, "0": {"content": "<new>", "lstrip": True}},
        "pad_token": "<pad>",
        "eos_token": ["</s>", "b"],
        "eos_token_ids": [0],
    }
    files = {"tokenizer_config": config, "special_tokens_map": {"eos_token": "<pad>", "unk_token": "a"}}
    tokenizer, _ = tokenizer_from_json(folder(tmp_path, **files))
    assert tokenizer.encode("<end>a <new><pad>b", special=True) == [4, 0, 5, 6, 1]
    assert tokenizer.stop_ids == {0, 1, 3}
    assert tokenizer.eos_id == 3
    assert "<end>" in tokenizer.special_tokens  # tokenizer.json has it as one


def test_a_template_s_markers_keep_their_rules_about_white_space(tmp_path: Path) -> None:
    token = {"content": "<|im_start|>", "rstrip": True, "lstrip": True, "special": True}
    config = {"added_tokens_decoder": {"5": token, "6": {"content": "<|im_end|>", "single_word": True}}}
    tokenizer, _ = tokenizer_from_json(folder(tmp_path, tokenizer_config=config))
    template = ChatTemplate("a <|im_start|> \nb<|im_end|>{{ messages[0].content }}<|im_end|>")
    assert template.encode([{"role": "user", "content": "a-"}], tokenizer) == [0, 5, 1, 0, 6]


def test_a_spelling_that_is_an_ordinary_word_stays_one(tmp_path: Path) -> None:
    vocab = {"a": 0, "b": 1, "</s>": 5, "<|x|>": 6}
    data = {"model": {"type": "BPE", "vocab": vocab, "merges": [], "ignore_merges": True}}
    tokenizer, _ = tokenizer_from_json(folder(tmp_path, tokenizer=data, chat_template=CHATML))
    assert (tokenizer.stop_ids, tokenizer.special_tokens) == (frozenset(), {})
    assert tokenizer.encode("</s>") == [5]


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
        ("tokenizer_config", {"additional_special_tokens": [1]}),
        ("tokenizer_config", {"added_tokens_decoder": [1]}),
        ("tokenizer_config", {"added_tokens_decoder": {"x": "a"}}),
        ("tokenizer_config", {"added_tokens_decoder": {"-1": "a"}}),
        ("tokenizer_config", {"added_tokens_decoder": {"5": 5}}),
        ("tokenizer_config", {"eos_token_ids": "a"}),
        ("added_tokens", []),
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
