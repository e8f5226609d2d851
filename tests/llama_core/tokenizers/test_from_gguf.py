"""Metadata that does not describe a tokenizer is refused by the name of its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf
from llama_core.tokenizers.pretokenizers import RULES, splitter
from llama_core.tokenizers.probes import probes

GOOD: dict[str, Any] = {
    "model": "gpt2",
    "pre": "gpt-2",
    "tokens": ["a", "b", "ab", "<|end|>"],
    "token_type": np.array([1, 1, 1, 3], dtype=np.int32),
    "merges": ["a b"],
    "bos_token_id": 3,
    "eos_token_id": 3,
    "add_bos_token": True,
}


def build(**changes: Any) -> Any:
    fields = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    return tokenizer_from_gguf({f"tokenizer.ggml.{k}": v for k, v in fields.items()}, Path("toy.gguf"))


def test_a_sound_one() -> None:
    tokenizer = build()
    assert tokenizer.encode("abba") == [2, 1, 0]
    assert (tokenizer.bos_id, tokenizer.add_bos, tokenizer.vocab_size) == (3, True, 4)
    assert build(bos_token_id=...).add_bos is False
    assert build(bos_token_id=0xFFFFFFFF).bos_id is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", ...),
        ("model", 7),
        ("tokens", ...),
        ("tokens", []),
        ("tokens", "abc"),
        ("tokens", np.zeros(4, np.int32)),
        ("token_type", np.zeros(3, np.int32)),
        ("token_type", np.zeros(4, np.float32)),
        ("token_type", ["1", "1", "1", "1"]),
        ("merges", ...),
        ("merges", np.zeros(4, np.int32)),
        ("eos_token_ids", 3),
        ("eos_token_ids", np.zeros(2, np.float32)),
        ("eos_token_id", "3"),
        ("eos_token_id", True),
        ("add_bos_token", 1),
        ("pre", 3),
    ],
)
def test_a_wrong_key_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelFormatError, match=rf"tokenizer\.ggml\.{key}:"):
        build(**{key: value})


@pytest.mark.parametrize(("key", "value"), [("model", "wordpiece"), ("pre", "no-such-rule")])
def test_an_unknown_kind_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(UnsupportedModelError, match=value):
        build(**{key: value})


@pytest.mark.parametrize("value", [4, 99_999, -2])
@pytest.mark.parametrize("role", ["bos", "eos", "eot", "eom", "unknown"])
def test_an_id_outside_the_vocabulary_is_told_and_its_default_used(
    role: str, value: int, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{role}_token_id"
    scored = {"model": "llama", "scores": np.zeros(4, np.float32)}
    for more in ({}, scored):
        caplog.clear()
        tokenizer, default = build(**more, **{key: value}), build(**more, **{key: ...})
        assert (tokenizer.bos_id, tokenizer.eos_id) == (default.bos_id, default.eos_id)
        assert tokenizer.stop_ids == default.stop_ids
        if more or role != "unknown":
            assert f"tokenizer.ggml.{key}: id {value} is outside the vocabulary of 4" in caplog.text


def test_end_tokens() -> None:
    assert build(eot_token_id=1, eom_token_id=2).stop_ids == {1, 2, 3}
    assert build(token_type=..., eos_token_id=...).stop_ids == frozenset()
    ids = np.array([0, 2, 7], np.int32)  # 7 is no token's
    assert build(eos_token_ids=ids).stop_ids == {0, 2, 3}


def test_ids_that_a_file_of_scores_leaves_out() -> None:
    """As llama.cpp: begin 1, end 2, unknown 0, each where the vocabulary has it."""
    tokens = ["<unk>", "<s>", "</s>", "a"]

    def scored(n: int, **changes: Any) -> Any:
        values = {"scores": np.zeros(n, np.float32), "token_type": np.array([2, 3, 3, 1][:n], np.int32)}
        none = {"pre": ..., "bos_token_id": ..., "eos_token_id": ..., "add_bos_token": ...}
        return build(**({"model": "llama", "tokens": tokens[:n], "merges": ...} | none | values | changes))

    tokenizer = scored(4, add_space_prefix=False)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos) == (1, 2, True)
    assert tokenizer.stop_ids == {2}
    assert tokenizer.encode("a?") == [3, 0]
    assert (scored(2).bos_id, scored(2).eos_id) == (1, None)
    without = scored(4, bos_token_id=0xFFFFFFFF, unknown_token_id=0xFFFFFFFF, add_space_prefix=False)
    assert (without.bos_id, without.add_bos, without.encode("a?")) == (None, False, [3])


def test_a_prompt_begins_as_the_rule_has_it() -> None:
    wanted = {"tekken": True, "llama-bpe": True, "dbrx": False, "smollm": False, "default": False}
    assert {name: build(pre=name, add_bos_token=...).add_bos for name in wanted} == wanted


def test_files_from_before_the_pre_key() -> None:
    assert build(pre=...).kind == "byte-level BPE (default)"
    tokens = ["a", "b", "ab", "<|begin_of_text|>"]
    assert build(pre=..., tokens=tokens).kind == "byte-level BPE (llama-bpe)"


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_keeps_every_character(name: str, nasty_strings: list[str]) -> None:
    split = splitter(RULES[name].patterns)
    for text in nasty_strings:
        pieces = split(text)
        assert "".join(pieces) == text
        assert all(pieces)


def test_a_merge_without_its_token_falls_back_to_bytes() -> None:
    assert build(tokens=["a", "b", "ba", "<|end|>"]).encode("ab") == [0, 1]


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"scores.*not a number"):
        build(model="llama", pre=..., merges=..., scores=np.array([0, np.nan, 0, 0], np.float32))


# The names in llama.cpp's table, but for those of tokenizers that are not over bytes.
LLAMA_CPP_NAMES = """
    a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx
    deepseek-coder deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon
    falcon-h1 falcon3 gigachat glm4 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-97m grok-2
    hunyuan hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es
    jina-v5-nano joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3 llama4 megrez
    mellum mellum2 midm-2.0 minerva-7b minicpm5 minimax-m2 modern-bert mpt olmo phi-2 pixtral poro-chat qwen2
    qwen35 refact roberta-bpe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder superbpe
    talkie tekken tiny_aya trillion ufakzeka viking youtu
"""


def test_every_name_of_llama_cpp_is_known() -> None:
    assert set(LLAMA_CPP_NAMES.split()) <= set(RULES)
    assert build(pre="mellum").encode("abba") == [2, 1, 0]


@pytest.mark.parametrize(
    "patterns", sorted({rule.patterns for rule in RULES.values()}), ids=lambda p: p[0][:20]
)
def test_rules_cut_as_another_engine_of_expressions_does(
    patterns: tuple[str, ...], nasty_strings: list[str]
) -> None:
    """Oniguruma's, in `tokenizers`."""
    steps = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
    oracle = pre_tokenizers.Sequence(steps)
    split = splitter(patterns)
    for text in [*nasty_strings, *probes()]:
        assert list(split(text)) == [piece for piece, _ in oracle.pre_tokenize_str(text)], text


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("kimi-k2", "你好Hello worldABC 12345", ["你好", "Hello", " world", "ABC", " ", "123", "45"]),
        ("afmoe", "x1234567 1234", ["x", "1", "234", "567", " ", "1", "234"]),
        ("superbpe", "1234567", ["1", "234", "567"]),
        ("seed-coder", "a!!\n\nb12", ["a", "!!", "\n\n", "b", "1", "2"]),
        ("bailingmoe", "it'S\n\n 12", ["it", "'S", "\n\n", " ", "1", "2"]),
        ("ufakzeka", "Ali's", ["Ali", "'s"]),
        ("ufakzeka", "Ali'nin", ["Ali", "'nin"]),
        ("qwen35", "e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("exaone-moe", "한 국 어 12", ["한 국 어", " ", "1", "2"]),
        ("jais-2", "a" + " " * 7 + "b", ["a", "    ", "  ", " b"]),
        ("minicpm5", "12345", ["123", "45"]),
        ("laguna", "a \n b", ["a", " ", "\n", " b"]),
        ("viking", "a b12(c", ["a", " b", "1", "2", "(", "c"]),
        ("bloom", "a b12.c", ["a", " b12", ".", "c"]),
        ("deepseek-llm", "Hi, 你 123", ["Hi", ",", " ", "你", " ", "123"]),
        ("deepseek-v3", "#include 1234あ", ["#include", " ", "123", "4", "あ"]),
        ("chameleon", "a1!\n", ["a", "1", "!", "\n"]),
        ("tiny_aya", "1234567", ["1", "234", "567"]),
        ("youtu", "가나、abC", ["가나", "、", "ab", "C"]),
    ],
)
def test_where_the_rules_differ(name: str, text: str, pieces: list[str]) -> None:
    assert list(splitter(RULES[name].patterns)(text)) == pieces
