"""Byte-level BPE is identical with Hugging Face `tokenizers` and with the stored reference ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from llama_core.tokenizers import merge
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf

# Characters that Python's Unicode tables know; newer ones have a category in one library and none in
# another. U+0295 changed its category in a recent Unicode.
TEXT = st.text(st.characters(exclude_categories=["Cn", "Cs"], exclude_characters="\u0295"), max_size=60)
# Words from few letters, digits and white space hit merges and the rules' corners more often.
DENSE = st.text(st.sampled_from("aetnsorthiASTL '\"!.,\n\t 0123456789\u00e9\u4e2d\u0301\u00a0"), max_size=60)

CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# As the authors published them in tokenizer.json; None is the expression built into ByteLevel.
PUBLISHED = {
    "gpt-2": None,
    "llama-bpe": [LLAMA3],
    "dbrx": [LLAMA3],
    "qwen2": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")],
    "tekken": [CASED],
    "gpt-4o": [
        CASED.replace(r"\p{M}]+|", rf"\p{{M}}]+{SUFFIX}|")
        .replace(r"\p{M}]*|", rf"\p{{M}}]*{SUFFIX}|")
        .replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"],
    # Nobody published this one: llama.cpp has it for files that name no rule (`llama-vocab.cpp`).
    "default": [
        r"[\p{P}\$\+<=>\^~\|]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"\p{N}+",
        r"[0-9][0-9][0-9]",
    ],
}


def metadata_of(oracle: tokenizers.Tokenizer, pre: str) -> dict[str, Any]:
    """GGUF keys with the vocabulary and merges of a byte-level tokenizer of `tokenizers`."""
    model = json.loads(oracle.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
    }


@pytest.fixture(scope="module", params=[*PUBLISHED, "smollm"])
def pair(
    request: pytest.FixtureRequest, byte_level_oracle: Callable[[Sequence[str] | None], tokenizers.Tokenizer]
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """Our tokenizer and the oracle over the same trained vocabulary, for one pre-tokenizer rule."""
    name: str = request.param
    oracle = byte_level_oracle(PUBLISHED.get(name))
    if name == "smollm":
        oracle.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    metadata = metadata_of(oracle, name)
    if name in ("llama-bpe", "tekken"):
        model = json.loads(oracle.to_str())["model"]
        merges = [tuple(merge) for merge in model["merges"]]
        oracle.model = models.BPE(model["vocab"], merges, ignore_merges=True)
    return tokenizer_from_gguf(metadata, Path("toy.gguf")), oracle


def test_every_rule_on_nasty_strings(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], nasty_strings: list[str]
) -> None:
    ours, oracle = pair
    for text in nasty_strings:
        assert ours.encode(text) == oracle.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ours.encode(text)) == text


@settings(max_examples=120, deadline=None, print_blob=True)
@given(text=st.one_of(TEXT, DENSE))
def test_every_rule_on_random_unicode(pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str) -> None:
    ours, oracle = pair
    assert ours.encode(text) == oracle.encode(text, add_special_tokens=False).ids


def test_files_without_a_rule_are_cut_by_the_default() -> None:
    """Digits in threes, punctuation alone: with merges across those borders the cut shows in the ids."""
    merges = ["1 2", "3 4", "5 6", "12 34", "1234 56", "Ġ 123456", "Ġ (", "x )", "Ġ =", "Ġ= Ġ", "a ;"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(merge.replace(" ", "") for merge in merges)]
    model = models.BPE(
        {token: i for i, token in enumerate(tokens)}, [(a, b) for a, b in map(str.split, merges)]
    )
    oracle = tokenizers.Tokenizer(model)
    splits = [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in PUBLISHED["default"] or []]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    oracle.pre_tokenizer = pre_tokenizers.Sequence([*splits, last])
    text = "It is 123456789 (x) a; = 12"
    wanted = oracle.encode(text, add_special_tokens=False).ids
    metadata = metadata_of(oracle, "gpt-2")
    assert tokenizer_from_gguf(metadata, Path("a")).encode(text) != wanted
    for pre in ("", "default"):
        metadata["tokenizer.ggml.pre"] = pre
        assert tokenizer_from_gguf(metadata, Path("a")).encode(text) == wanted


def test_ignore_merges_takes_whole_tokens(
    byte_level_oracle: Callable[[Sequence[str] | None], tokenizers.Tokenizer],
) -> None:
    metadata = metadata_of(byte_level_oracle([LLAMA3]), "llama-bpe")
    metadata["tokenizer.ggml.tokens"].append("Ġquintessence")
    last = len(metadata["tokenizer.ggml.tokens"]) - 1
    assert tokenizer_from_gguf(metadata, Path("a")).encode(" quintessence") == [last]
    metadata["tokenizer.ggml.pre"] = "dbrx"
    assert last not in tokenizer_from_gguf(metadata, Path("a")).encode(" quintessence")


def test_unpaired_surrogates_become_replacement_characters(
    pair: tuple[Tokenizer, tokenizers.Tokenizer],
) -> None:
    ours, _ = pair
    assert ours.decode(ours.encode("a\ud800b \udfff")) == "a\ufffdb \ufffd"


def test_cache_is_bounded(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, oracle = pair
    monkeypatch.setattr(merge, "MOST_PIECES", 10)
    for number in range(100):
        text = f"word{number} {number * 7919}" + "y" * number
        assert ours.encode(text) == oracle.encode(text, add_special_tokens=False).ids
    assert len(ours._cache) <= 10  # type: ignore[attr-defined]


@pytest.mark.model
def test_default_model_equals_the_stored_reference(
    default_checkpoint: Any, reference: Callable[[str], Any]
) -> None:
    tokenizer = default_checkpoint.tokenizer
    for item in reference("tokens.json"):
        assert tokenizer.encode(item["text"]) == item["ids"], item["text"]


@pytest.fixture(scope="module")
def default_oracle(default_checkpoint: Any) -> tokenizers.Tokenizer:
    """`tokenizers` over the default model's own vocabulary: digits one by one, then GPT-2's words."""
    metadata = default_checkpoint.metadata
    vocab = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    oracle = tokenizers.Tokenizer(models.BPE(vocab, merges))
    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return oracle


@pytest.mark.model
def test_default_model_on_nasty_strings(
    default_checkpoint: Any, default_oracle: tokenizers.Tokenizer, nasty_strings: list[str]
) -> None:
    for text in nasty_strings:
        expected = default_oracle.encode(text, add_special_tokens=False).ids
        assert default_checkpoint.tokenizer.encode(text) == expected, text


@pytest.mark.model
@settings(max_examples=300, deadline=None, print_blob=True)
@given(text=st.one_of(TEXT, DENSE))
def test_default_model_on_random_unicode(
    default_checkpoint: Any, default_oracle: tokenizers.Tokenizer, text: str
) -> None:
    expected = default_oracle.encode(text, add_special_tokens=False).ids
    assert default_checkpoint.tokenizer.encode(text) == expected


@pytest.mark.model
def test_default_model_drops_bytes_it_has_no_token_for(default_checkpoint: Any) -> None:
    tokenizer = default_checkpoint.tokenizer
    for byte in (0x04, 0x06, 0x13, 0x14, 0x16, 0x1D):
        assert tokenizer.encode(chr(byte)) == []
    assert tokenizer.decode(tokenizer.encode("a\x04b")) == "ab"


@pytest.mark.model
def test_default_model_ends_replies_at_its_end_tokens(default_checkpoint: Any) -> None:
    tokenizer = default_checkpoint.tokenizer
    assert tokenizer.stop_ids == {0, 2, 4}  # 4 is <reponame>, as llama.cpp has it
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos) == (1, 2, False)
    assert tokenizer.special_tokens["<|im_start|>"] == 1


@pytest.mark.model
def test_a_very_long_word_takes_near_linear_time(
    default_checkpoint: Any, default_oracle: tokenizers.Tokenizer
) -> None:
    # Quadratic merging of 100,000 symbols would run for hours: the guard is that this test ends.
    word = "pneumonoultramicroscopicsilicovolcanoconiosis" * 2223
    ids = default_checkpoint.tokenizer.encode(word)
    assert ids == default_oracle.encode(word, add_special_tokens=False).ids
