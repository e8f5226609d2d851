"""Special tokens are found leftmost and longest, and only when asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf


def test_leftmost_and_longest() -> None:
    matcher = TokenMatcher({"<a>": 1, "<a><b>": 2, "b": 3, "": 4})
    assert matcher.split("x<a><b>y<a>b<a") == ["x", 2, "y", 1, 3, "<a"]
    assert matcher.split("") == []
    assert TokenMatcher({}).split("<a>") == ["<a>"]


def test_white_space_is_swallowed_where_the_token_says_so() -> None:
    matcher = TokenMatcher({"[L]": 1, "[R]": 2, "[N]": 3}, lstrip=[1], rstrip=[2])
    assert matcher.split("a  [L]  [R] \n b [N] c") == ["a", 1, "  ", 2, "b ", 3, " c"]
    assert matcher.split(" [L]") == [1]
    # The information separators are white space to Python but not to Unicode.
    assert matcher.split("a\x1f [L]\x1c") == ["a\x1f", 1, "\x1c"]
    assert matcher.split("[R]\u2028\x85\u3000\x1d ") == [2, "\x1d "]


def test_regular_expression_characters_are_literal() -> None:
    matcher = TokenMatcher({"]x": 1, "^y": 2, "\\z": 3, "-": 4})
    assert matcher.split("]x^y\\z-q") == [1, 2, 3, 4, "q"]


@pytest.fixture
def toy() -> Tokenizer:
    """Letters, two control tokens, a marker typed as user-defined and a plain added token."""
    tokens = [*"abc<|>imx/s", "<|im|>", "</s>", "<|x|>", "abc"]
    kinds = np.array([1] * 11 + [3, 3, 4, 4], dtype=np.int32)
    return tokenizer_from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": ["< |", "<| im", "i m", "<|im |>", "| >"],
        },
        Path("toy.gguf"),
    )


def test_control_tokens_only_when_special(toy: Tokenizer) -> None:
    assert toy.encode("a<|im|>b", special=True) == [0, 11, 1]
    plain = toy.encode("a<|im|>b")
    assert 11 not in plain
    assert toy.decode(plain) == "a<|im|>b"


def test_merging_never_reaches_a_control_token() -> None:
    tokenizer = tokenizer_from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.tokens": ["<", "|", ">", "<|", "<|>"],
            "tokenizer.ggml.token_type": np.array([1, 1, 1, 1, 3], dtype=np.int32),
            "tokenizer.ggml.merges": ["< |", "<| >"],
        },
        Path("toy.gguf"),
    )
    assert tokenizer.encode("<|>", special=True) == [4]
    assert tokenizer.encode("<|>") == [0, 1, 2]


def test_markers_are_special_whatever_their_type(toy: Tokenizer) -> None:
    assert set(toy.special_tokens) == {"<|im|>", "</s>", "<|x|>"}
    assert toy.encode("<|x|>", special=True) == [13]
    assert toy.decode(toy.encode("<|x|>")) == "<|x|>"


def test_plain_added_tokens_always(toy: Tokenizer) -> None:
    assert toy.encode("aabcb") == toy.encode("aabcb", special=True) == [0, 14, 1]
    assert toy.token_bytes(14) == b"abc"


def test_parts_keep_literal_text_literal(toy: Tokenizer) -> None:
    ids = toy.encode_parts([11, "<|im|>abc", 12])
    assert (ids[0], ids[-2:], ids.count(11)) == (11, [14, 12], 1)


def test_special_tokens_have_names_but_no_text(toy: Tokenizer) -> None:
    assert (toy.token_bytes(11), toy.token_text(11), toy.decode([0, 11, 1])) == (b"", "<|im|>", "ab")
    assert toy.stop_ids == {12}
    for outside in (-1, 15):
        with pytest.raises(IndexError):
            toy.token_bytes(outside)
