"""`tokenizer.json` read directly gives the ids of the `tokenizers` library."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers
from tokenizers import normalizers as norm

from llama_core.errors import UnsupportedModelError
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.from_files import tokenizer_from_json
from llama_core.tokenizers.huggingface import steps as hf_steps

TEXT = st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=50)
DENSE = st.text(st.sampled_from("aetnsorth  The▁'\n\t0123é中<t>|s/[]"), max_size=60)
PIECES = [
    *("<s>", "</s>", "<tool>", "[X]", "[Y]", "<|m|>", "yes", "qno", "<n>", "<n> r", "the e"),
    *(" ", "  ", "\n", "the", "▁", "a1", "_", "é", "\u0301", "9", "-"),
]
MIXED = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)

TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPACE_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
FROM_MARK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        FROM_MARK,
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def sequence(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(steps)}


def split(pattern: dict[str, str], behavior: str, invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(*before: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A file over bytes with these pre-tokenizers."""
    last = BYTE_LEVEL | options
    return {
        "pre_tokenizer": sequence("pretokenizers", *before, last) if before else last,
        "decoder": BYTE_LEVEL,
    }


KINDS: dict[str, dict[str, Any]] = {
    "gpt2": byte_level(use_regex=True),
    "gpt2 with prefix": byte_level(use_regex=True, add_prefix_space=True),
    "llama3": byte_level(split({"Regex": TIKTOKEN}, "Isolated")) | {"ignore_merges": True},
    "smollm": byte_level({"type": "Digits", "individual_digits": True}, use_regex=True),
    "qwen": byte_level(split({"Regex": TIKTOKEN.replace("{1,3}", "")}, "Isolated"))
    | {"normalizer": {"type": "NFC"}},
    "cl100k": byte_level(split({"Regex": TIKTOKEN}, "Removed", True)),
    "deepseek": byte_level(
        split({"Regex": "[\r\n]"}, "Isolated"),
        split({"Regex": r"\s?\p{L}+"}, "Isolated"),
        split({"Regex": r"\s+$"}, "Isolated"),
        {"type": "Digits", "individual_digits": False},
    ),
    "llama2": {
        "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, SPACE_MARK),
        "decoder": LLAMA_DECODER,
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": "<unk>",
    },
    "gemma": {
        "normalizer": SPACE_MARK,
        "pre_tokenizer": split({"String": " "}, "MergedWithPrevious"),
        "decoder": sequence("decoders", FROM_MARK, {"type": "ByteFallback"}, {"type": "Fuse"}),
        "byte_fallback": True,
        "unk_token": "<unk>",
    },
    "no unknown token": {"pre_tokenizer": split({"String": "e"}, "Contiguous"), "decoder": {"type": "Fuse"}},
    "next": {"pre_tokenizer": split({"String": "t"}, "MergedWithNext"), "decoder": {"type": "Fuse"}},
}
for _scheme in ("always", "first", "never"):
    for _split_words in (True, False):
        _metaspace = {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": _scheme,
            "split": _split_words,
        }
        KINDS[f"metaspace {_scheme} {_split_words}"] = {
            "pre_tokenizer": _metaspace,
            "decoder": _metaspace,
            "unk_token": "<unk>",
            "fuse_unk": _split_words,
        }
ADDED = [
    ("<s>", {"special": True, "normalized": False}),
    ("</s>", {"special": True, "normalized": False}),
    ("<|m|>", {"special": True, "normalized": False, "lstrip": True}),
    ("[X]", {"special": False, "normalized": False, "rstrip": True}),
    ("[Y]", {"special": False, "normalized": True}),
    ("<tool>", {"special": False, "normalized": False}),
    ("yes", {"special": False, "normalized": False, "single_word": True}),
    ("the e", {"special": False, "normalized": True, "single_word": True, "lstrip": True}),
    ("qno", {"special": True, "normalized": False, "single_word": True, "rstrip": True}),
    ("<n>", {"special": True, "normalized": True}),
    ("<n> r", {"special": True, "normalized": True, "rstrip": True, "lstrip": True}),
]


@pytest.fixture(scope="session")
def vocabularies(nasty_strings: list[str]) -> dict[bool, dict[str, Any]]:
    """Trained BPE models: over bytes (True) and over characters with byte tokens (False)."""
    corpus = [
        *nasty_strings * 3,
        Path(__file__).read_text(encoding="utf-8"),
        "The other thing is there. " * 30,
    ]
    found = {}
    for over_bytes in (True, False):
        oracle = tokenizers.Tokenizer(models.BPE(unk_token=None if over_bytes else "<unk>"))
        if over_bytes:
            oracle.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            alphabet, extra = pre_tokenizers.ByteLevel.alphabet(), []
        else:
            oracle.normalizer = norm.Replace(" ", "▁")
            oracle.pre_tokenizer = pre_tokenizers.Metaspace()
            alphabet, extra = [], ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(
            vocab_size=900,
            initial_alphabet=alphabet,
            limit_alphabet=400,
            special_tokens=extra,
            show_progress=False,
        )
        oracle.train_from_iterator(corpus, trainer)
        found[over_bytes] = json.loads(oracle.to_str())["model"]
    return found


def file_of(options: dict[str, Any], vocabularies: dict[bool, dict[str, Any]]) -> dict[str, Any]:
    """The JSON value of a tokenizer with these parts."""
    over_bytes = "ByteLevel" in json.dumps(options.get("pre_tokenizer"))
    model = dict(vocabularies[over_bytes])
    for name in ("byte_fallback", "fuse_unk", "ignore_merges", "unk_token"):
        model[name] = options.get(name, None if name == "unk_token" else False)
    vocab = model["vocab"]
    new = itertools.count(len(vocab))
    added = [
        {
            "id": vocab[text] if text in vocab else next(new),
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        | flags
        for text, flags in ADDED
    ]
    parts = {name: options.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")}
    return (
        {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
        | parts
        | {
            "post_processor": None,
            "model": model,
        }
    )


Pair = tuple[Tokenizer, tokenizers.Tokenizer]


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest,
    vocabularies: dict[bool, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    """Our reading of a file and the oracle's."""
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    path.write_text(json.dumps(file_of(KINDS[request.param], vocabularies)), encoding="utf-8")
    return tokenizer_from_json(path)[0], tokenizers.Tokenizer.from_file(str(path))


def same(pair: Pair, text: str) -> None:
    ours, oracle = pair
    assert ours.encode(text, special=True) == oracle.encode(text, add_special_tokens=False).ids, text


def test_every_kind_on_nasty_strings(pair: Pair, nasty_strings: list[str]) -> None:
    for text in nasty_strings:
        same(pair, text)
        ids = pair[0].encode(text)
        assert pair[0].decode(ids) == pair[1].decode(ids, skip_special_tokens=True), text


def test_white_space_beside_added_tokens(pair: Pair) -> None:
    """Every character that Unicode, Python or someone else takes for white space."""
    for space in [
        *map(chr, range(0x21)),
        *"\x7f\x85\xa0\u1680\u180e\u2007\u200b\u2028\u2029\u202f\u205f\u3000",
    ]:
        same(pair, f"a{space}<|m|>{space}b{space}[X]{space}c")


@settings(max_examples=100, deadline=None, print_blob=True)
@given(text=st.one_of(TEXT, DENSE, MIXED))
def test_every_kind_on_random_text(pair: Pair, text: str) -> None:
    same(pair, text)


def test_special_tokens_are_text_unless_asked_for(pair: Pair) -> None:
    ours, _ = pair
    special = set(ours.special_tokens.values())
    assert set(ours.special_tokens) >= {"<s>", "</s>", "<|m|>"}
    assert not special & set(ours.encode("a<s>b</s> <|m|>"))


@pytest.mark.parametrize("as_pairs", [True, False])
def test_merges_as_strings_and_as_pairs(
    as_pairs: bool, vocabularies: dict[bool, dict[str, Any]], tmp_path: Path
) -> None:
    data = file_of(KINDS["gpt2"], vocabularies)
    merges = [m if isinstance(m, list) else m.split(" ") for m in data["model"]["merges"]]
    data["model"]["merges"] = merges if as_pairs else [" ".join(m) for m in merges]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    text = "The other thing's there, 123 times."
    expected = tokenizers.Tokenizer.from_file(str(path)).encode(text).ids
    assert tokenizer_from_json(path)[0].encode(text) == expected


def test_merges_of_tokens_with_spaces(tmp_path: Path) -> None:
    vocab = {"a": 0, " ": 1, "b": 2, "a ": 3, "a b": 4}
    model = {"type": "BPE", "vocab": vocab, "merges": [["a", " "], ["a ", "b"]]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": model}), encoding="utf-8")
    assert tokenizer_from_json(path)[0].encode("a ba ab") == [4, 3, 0, 2]
    assert tokenizers.Tokenizer.from_file(str(path)).encode("a ba ab").ids == [4, 3, 0, 2]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "the normalizer Lowercase"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}}, "Precompiled"),
        ({"pre_tokenizer": {"type": "BertPreTokenizer"}}, "the pre-tokenizer BertPreTokenizer"),
        ({"decoder": {"type": "WordPiece"}}, "the decoder WordPiece"),
        ({"model": {"type": "Unigram", "vocab": []}}, "the model type Unigram"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}, "dropout"),
    ],
)
def test_what_cannot_be_expressed_is_named(
    change: dict[str, Any], named: str, vocabularies: dict[bool, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file_of(KINDS["gpt2"], vocabularies) | change), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match=named):
        tokenizer_from_json(path)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "nul",
        "[" * 100_000,
        '{"model": 3}',
        '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": 16000000}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": 1e3}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": true}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "u"}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": 7}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}}, "pre_tokenizer": {"type": "Split"}}',
        '{"model": {"vocab": {"a": 0}}, "normalizer": {"type": "Replace", "pattern": {"Regex": "("}}}',
        '{"model": {"type": "BPE", "vocab": {"a": ' + "9" * 5000 + "}}}",
    ],
)
def test_malformed_files_are_refused(data: str, tmp_path: Path, refused: Callable[[str], Any]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(data, encoding="utf-8")
    with refused("tokenizer.json"):
        tokenizer_from_json(path)


def test_a_hostile_expression_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_steps, "MATCH_S", 0.1)
    slow = split({"Regex": "(a|aa)+$"}, "Isolated")
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": model, "pre_tokenizer": slow}), encoding="utf-8")
    assert tokenizer_from_json(path)[0].encode("a" * 60 + "b") == [0] * 60 + [1]
