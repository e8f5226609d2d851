"""llama2.c's and llama3.np's files, against the definition of their algorithms."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.from_files import tokenizer_from_llama2c, tokenizer_from_llama3np

WORDS = [
    " t",
    "he",
    " the",
    "in",
    " a",
    "er",
    "re",
    "th",
    "  ",
    "ther",
    " there",
    "hé",
    " 中",
    "nd",
    "and",
    " and",
]
LETTERS = [" ", *"abcdefghinrst", "é", "中"]
TEXT = st.text(st.sampled_from(" abdehinrst<>é中\n\U0001f600"), max_size=40)


def vocabulary(bytes_as: Callable[[int], str]) -> tuple[list[str], list[float]]:
    """Three roles, 256 byte tokens, then pieces, the likelier with the higher score."""
    pieces = [*WORDS, *LETTERS]
    tokens = ["<unk>", "\n<s>\n", "\n</s>\n", *map(bytes_as, range(256)), *pieces]
    return tokens, [0.0] * 259 + [-float(i) for i in range(len(pieces))]


def tokenizer_bin(tokens: list[str], scores: list[float]) -> bytes:
    """A file as llama2.c's exporter writes it."""
    texts = [token.encode() for token in tokens]
    body = b"".join(struct.pack("<fi", s, len(t)) + t for t, s in zip(texts, scores, strict=True))
    return struct.pack("<i", max(map(len, texts))) + body


def merge_best(
    ids: list[int], tokens: list[str], scores: list[float], find: Callable[[str], int]
) -> list[int]:
    """Join the neighbours with the best score, the leftmost of equals, until none can be joined."""
    while True:
        best = max(
            (
                (scores[joined], -i, joined)
                for i in range(len(ids) - 1)
                if (joined := find(tokens[ids[i]] + tokens[ids[i + 1]])) >= 0
            ),
            default=None,
        )
        if best is None:
            return ids
        i = -best[1]
        ids = [*ids[:i], best[2], *ids[i + 2 :]]


@pytest.fixture
def llama2c(tmp_path: Path) -> Tokenizer:
    """A tokenizer.bin read back."""
    tokens, scores = vocabulary("<0x{:02X}>".format)
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(tokenizer_bin(tokens, scores))
    return tokenizer_from_llama2c(path, len(tokens))


def test_llama2c_by_definition(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens, scores = vocabulary("<0x{:02X}>".format)
    path = tmp_path_factory.mktemp("bin") / "tokenizer.bin"
    path.write_bytes(tokenizer_bin(tokens, scores))
    ours = tokenizer_from_llama2c(path, len(tokens))
    pieces = {token: i for i, token in enumerate(tokens) if i >= 259}

    @given(text=TEXT)
    def check(text: str) -> None:
        ids: list[int] = []
        for char in " " + text if text else "":
            ids += [pieces[char]] if char in pieces else [3 + byte for byte in char.encode()]
        assert ours.encode(text) == merge_best(ids, tokens, scores, lambda t: pieces.get(t, -1))
        assert ours.decode(ours.encode(text)) == text

    check()


def test_llama2c_roles(llama2c: Tokenizer) -> None:
    assert (llama2c.bos_id, llama2c.eos_id, llama2c.add_bos) == (1, 2, True)
    assert llama2c.stop_ids == {1, 2}  # its models' texts are trained one behind another
    assert llama2c.encode("<s>the", special=True)[0] == 1
    assert 1 not in llama2c.encode("<s>")
    assert llama2c.token_bytes(3 + 0xE9) == b"\xe9"


def test_llama2c_every_truncation_is_refused(tmp_path: Path, refused: Callable[[str], Any]) -> None:
    tokens, scores = vocabulary("<0x{:02X}>".format)
    tokens, scores = tokens[255:], scores[255:]
    data = tokenizer_bin(tokens, scores)
    path = tmp_path / "tokenizer.bin"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with refused("tokenizer.bin"):
            tokenizer_from_llama2c(path, len(tokens))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda d: d + b"\0", "bytes follow"),
        (lambda d: d[:8] + struct.pack("<i", -1) + d[12:], "token 0"),
        (lambda d: d[:8] + struct.pack("<i", 2**31 - 1) + d[12:], "token 0"),
        (lambda d: struct.pack("<i", 3) + d[4:], "token 0"),
        (lambda d: d[:4] + struct.pack("<f", float("nan")) + d[8:], "not a number"),
    ],
)
def test_llama2c_faults_are_named(
    spoil: Callable[[bytes], bytes], named: str, tmp_path: Path, refused: Callable[[str], Any]
) -> None:
    tokens, scores = vocabulary("<0x{:02X}>".format)
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(spoil(tokenizer_bin(tokens, scores)))
    with refused(named):
        tokenizer_from_llama2c(path, len(tokens))


@pytest.mark.parametrize("size", [-1, 0, 1 << 30])
def test_llama2c_absurd_sizes_are_refused(size: int, tmp_path: Path, refused: Callable[[str], Any]) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(b"\0" * 64)
    with refused("tokenizer.bin"):
        tokenizer_from_llama2c(path, size)


def test_llama3np_by_definition(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens, scores = vocabulary(chr)
    tokens[1:3] = ["<s>", "</s>"]
    path = tmp_path_factory.mktemp("np") / "tokenizer.model.np"
    path.write_text(json.dumps({"tokens": tokens, "scores": scores}), encoding="utf-8")
    ours = tokenizer_from_llama3np(path)

    def first(text: str) -> int:
        return tokens.index(text) if text in tokens[3:] else -1

    @given(text=TEXT)
    def check(text: str) -> None:
        ids = [i for char in text if (i := first(char)) >= 0]
        assert ours.encode(text) == merge_best(ids, tokens, scores, first)
        known = "".join(char for char in text if first(char) >= 0)
        assert ours.decode(ours.encode(text)) == known

    check()
    assert ours.encode("a") == [3 + ord("a")]  # not the second "a"
    assert ours.decode([1, *ours.encode("sss"), 2]) == "sss"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "{}",
        '{"tokens": ["a"], "scores": []}',
        '{"tokens": [1], "scores": [0]}',
        '{"tokens": ["a"], "scores": ["0"]}',
        '{"tokens": ["a"], "scores": [NaN]}',
        '{"tokens": ["a"], "scores": [true]}',
        '{"tokens": [], "scores": []}',
        '{"tokens": ["a"], "scores": [1' + "0" * 400 + "]}",
        "[" * 50_000,
        '{"tokens": ["a"], "scores": [1' + "0" * 5000 + "]}",
    ],
)
def test_llama3np_faults_are_refused(data: str, tmp_path: Path, refused: Callable[[str], Any]) -> None:
    path = tmp_path / "tokenizer.model.np"
    path.write_text(data, encoding="utf-8")
    with refused(r"tokenizer\.model\.np"):
        tokenizer_from_llama3np(path)


def test_a_missing_file_is_named(tmp_path: Path, refused: Callable[[str], Any]) -> None:
    with refused("cannot be read"):
        tokenizer_from_llama3np(tmp_path / "none.np")
