"""Tokenizer files with parts exchanged for other sound values: refused in words, or usable, and in time.

Damage to the bytes is the fuzzer's (`tests/fuzz`); these mutants stay JSON or GGUF, so they get further.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.errors import ModelFormatError
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.from_files import tokenizer_from_json
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf
from tests.support.luck import SEED

MUTANTS = 400
TEXT = "Hello <|x|> wörld\n 123 ▁a<s>\U0001f600\ud800"
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        10**40,
        0.5,
        -1e300,
        float("nan"),
        "",
        " ",
        "▁",
        "a",
        "(a+)+$",
    ),
    *("\ud800", "x" * 300, [], {}, [[]], ["a"], ["a b"], [["a", "b"]], [1], {"a": 0}, {"type": "Sequence"}),
    *({"type": "ByteLevel"}, {"type": "Metaspace"}, {"String": ""}, {"Regex": "\\p{L}*"}, {"Regex": "(?=a)"}),
    *({"type": "Split"}, {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "content": "xx"}),
]
VOCAB = {
    token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *"▁abcHelo wrd123\n", "he", "▁a", "<0x0A>"])
}
JSON_SEED: dict[str, Any] = {
    "added_tokens": [
        {"id": 1, "content": "<s>", "special": True, "normalized": False, "lstrip": False},
        {"id": 25, "content": "<|x|>", "special": False, "normalized": True, "rstrip": True},
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            {"type": "NFC"},
        ],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "MergedWithNext", "invert": False},
            {"type": "Digits", "individual_digits": True},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
        ],
    },
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]},
    "decoder": {
        "type": "Sequence",
        "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1}],
    },
    "model": {
        "type": "BPE",
        "unk_token": "<unk>",
        "byte_fallback": True,
        "fuse_unk": True,
        "ignore_merges": False,
        "vocab": VOCAB,
        "merges": ["h e", "▁ a"],
    },
}
GGUF_VALUES: list[Any] = [
    *VALUES,
    np.zeros(0, np.int32),
    np.full(24, 3, np.int32),
    np.full(24, 1.5, np.float32),
    np.full(24, np.nan, np.float32),
    np.full(24, 255, np.uint8),
    np.full(24, -(2**60), np.int64),
    np.zeros((4, 6), np.int32),
    ["\udcff"] * 24,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a JSON value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path] + [place for key, child in children for place in places(child, (*path, key))]


def changed(rng: random.Random, value: Any) -> Any:
    """A copy with one to three parts exchanged, deleted or put in the place of another."""
    data = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        candidates = places(data)[1:]
        if not candidates:
            return data
        *parents, last = rng.choice(candidates)
        parent = data
        for key in parents:
            parent = parent[key]
        choice = rng.random()
        if choice < 0.15:
            del parent[last]
        elif choice < 0.4:
            other = data
            for key in rng.choice(candidates):
                if not isinstance(other, (dict, list)) or (isinstance(other, dict) and key not in other):
                    break
                other = other[key]
            parent[last] = copy.deepcopy(other)
        else:
            parent[last] = copy.deepcopy(rng.choice(VALUES))
    return data


def use(tokenizer: Tokenizer) -> None:
    """What the app does with a tokenizer."""
    ids = tokenizer.encode(TEXT, special=True) + tokenizer.encode(TEXT)
    assert all(0 <= i < tokenizer.vocab_size for i in [*ids, *tokenizer.stop_ids])
    stream = tokenizer.stream()
    "".join(map(stream.push, ids)) + stream.flush() + tokenizer.decode(ids)
    for token_id in range(min(tokenizer.vocab_size, 64)):
        tokenizer.token_text(token_id).encode()


def test_json_mutants(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "tokenizer.json"
    opened = 0
    for number in range(MUTANTS):
        path.write_text(json.dumps(changed(rng, JSON_SEED)), encoding="utf-8")
        try:
            tokenizer = tokenizer_from_json(path)[0]
        except ModelFormatError:
            continue
        except Exception as error:
            raise AssertionError(f"mutant {number} of seed {SEED}: {path.read_text()}") from error
        try:
            use(tokenizer)
        except Exception as error:
            raise AssertionError(f"mutant {number} of seed {SEED} opens: {path.read_text()}") from error
        opened += 1
    assert 0 < opened < MUTANTS


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_gguf_mutants(model: str) -> None:
    rng = random.Random(SEED)
    seed: dict[str, Any] = {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": list(VOCAB),
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [1] * (len(VOCAB) - 4) + [6], np.int32),
        "tokenizer.ggml.scores": np.linspace(0, -1, len(VOCAB), dtype=np.float32),
        "tokenizer.ggml.merges": ["h e", "▁ a"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": False,
    }
    for number in range(MUTANTS):
        mutant = dict(seed)
        for key in rng.sample(sorted(seed), rng.choice((1, 1, 2))):
            mutant[key] = rng.choice([*GGUF_VALUES, *seed.values()])
        try:
            use(tokenizer_from_gguf(mutant, Path("toy.gguf")))
        except ModelFormatError:
            continue
        except Exception as error:
            raise AssertionError(f"mutant {number} of seed {SEED}: {mutant}") from error
