"""Where a reply ends, and what is a marker: as files name it, type it, and spell it in templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.byte_bpe import BYTE_TO_CHAR
from llama_core.tokenizers.endings import END_NAMES, end_ids, is_marker
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf
from llama_core.tokenizers.templates.chat_template import ChatTemplate
from llama_core.tokenizers.vocabulary import TokenType

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"


def with_tokens(
    *added: tuple[str, TokenType], template: str | None = None, **keys: Any
) -> tuple[Tokenizer, ChatTemplate]:
    """A tokenizer of the 256 bytes and these tokens, ids from 256 on, and its template."""
    types = [TokenType.NORMAL] * 256 + [kind for _, kind in added]
    metadata = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*BYTE_TO_CHAR, *(text for text, _ in added)],
        "token_type": np.array(types, np.int32),
        "merges": [],
    }
    fields = {f"tokenizer.ggml.{key}": value for key, value in (metadata | keys).items()}
    return tokenizer_from_gguf(fields, Path("toy.gguf"), template=template), ChatTemplate(template or "")


@pytest.mark.parametrize("name", sorted(END_NAMES))
def test_a_marker_with_an_end_s_name_ends_a_reply(name: str) -> None:
    for kind in (TokenType.CONTROL, TokenType.USER_DEFINED):
        tokenizer, _ = with_tokens((name, kind))
        assert tokenizer.stop_ids == {256}
        assert tokenizer.token_bytes(256) == b""
    # As an ordinary word, which Qwen 2.5 has of </s>, it ends nothing and can be said.
    tokenizer, _ = with_tokens((name, TokenType.NORMAL))
    assert tokenizer.stop_ids == frozenset()
    assert tokenizer.token_bytes(256) == name.encode()


def test_qwen_s_ends_are_llama_cpp_s() -> None:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_pad|>"]
    names += ["<|repo_name|>", "<|file_sep|>"]
    tokenizer, _ = with_tokens(*((name, TokenType.CONTROL) for name in names), ("</s>", TokenType.NORMAL))
    assert tokenizer.stop_ids == {256, 258, 261, 262, 263}


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        (["<|end|>", "<|return|>", "<|call|>"], {1, 2}),
        (["<|end|>", "<|return|>"], {0, 1}),
        (["<|end|>", "<|calls|>", "<|flush|>"], {1, 2}),
        (["</s>", "<|tool_response>", "<turn|>"], {1, 2}),
        (["</s>", "<turn|>"], {0, 1}),
    ],
)
def test_names_that_end_only_a_part_of_a_reply(names: list[str], ends: set[int]) -> None:
    assert end_ids({name: i for i, name in enumerate(names)}) == ends


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("<|x|>", True),
        ("<｜x▁y｜>", True),
        ("</s>", True),
        ("<||>", False),
        ("<x>", False),
        ("a<|x|>", False),
    ],
)
def test_what_looks_like_a_marker(text: str, marker: bool) -> None:
    assert is_marker(text) is marker


@pytest.mark.parametrize("end", ["<|im_end|>", "<end_of_turn>", "</s>", "[EOT]"])
def test_a_token_of_normal_type_that_the_template_ends_a_turn_with(end: str) -> None:
    template = CHATML.replace("<|im_end|>", end)
    added = [("<|im_start|>", TokenType.NORMAL), (end, TokenType.NORMAL)]
    tokenizer, chat = with_tokens(*added, template=template, eos_token_id=256)
    assert tokenizer.stop_ids == {256, 257}
    assert chat.encode([{"role": "user", "content": "a"}], tokenizer) == [256, ord("a"), 257]
    assert tokenizer.token_bytes(257) == b""
    # No message can end the turn.
    assert chat.encode([{"role": "user", "content": end}], tokenizer).count(257) == 1


@pytest.mark.parametrize("key", ["eos_token_id", "eot_token_id", "eom_token_id", "eos_token_ids"])
def test_a_token_of_normal_type_that_the_file_names(key: str) -> None:
    value = np.array([256], np.int32) if key.endswith("s") else 256
    tokenizer, _ = with_tokens(("<end of it>", TokenType.NORMAL), **{key: value})
    assert tokenizer.stop_ids == {256}
    assert tokenizer.token_bytes(256) == b""
    assert tokenizer.encode("<end of it>", special=True) == [256]
    # A plus sign that a file names as an end does end replies, but can still be written.
    plus = ord("+")
    tokenizer, _ = with_tokens(**{key: np.array([plus], np.int32) if key.endswith("s") else plus})
    assert tokenizer.stop_ids == {plus}
    assert tokenizer.encode("1+1") == [ord("1"), plus, ord("1")]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rows_without_a_token_and_tokens_without_a_row(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    tokens = [f"<0x{byte:02X}>" for byte in range(256)] if kind == "llama" else list(BYTE_TO_CHAR)
    fields = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, "<|im_start|>", "<|im_end|>"],
        "tokenizer.ggml.token_type": np.array([6 if kind == "llama" else 1] * 256 + [3, 3], np.int32),
        "tokenizer.ggml.scores": np.zeros(258, np.float32),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 257,
        "tokenizer.ggml.add_space_prefix": False,
    }

    def read(n_rows: int | None) -> Tokenizer:
        return tokenizer_from_gguf(fields, Path("toy.gguf"), n_rows=n_rows)

    padded = read(300)
    assert padded.vocab_size == 300
    assert padded.decode(range(258, 300)) == ""
    assert padded.token_text(299) == "[PAD299]"
    assert padded.encode("<|im_end|>é", special=True) == read(None).encode("<|im_end|>é", special=True)
    assert caplog.text == ""
    short = read(257)
    assert short.vocab_size == 257
    assert (short.eos_id, 257 in short.stop_ids) == (None, False)
    assert max(short.encode("<|im_end|>", special=True)) < 256
    assert short.decode(short.encode("<|im_end|>", special=True)) == "<|im_end|>"
    assert "1 of the tokenizer's tokens, from '<|im_end|>' on, have no row in the model" in caplog.text
    for tokenizer in (padded, short):
        for outside in (-1, tokenizer.vocab_size):
            with pytest.raises(IndexError):
                tokenizer.token_bytes(outside)
