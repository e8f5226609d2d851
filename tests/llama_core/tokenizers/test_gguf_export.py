"""A tokenizer written as GGUF gives the ids of its source, or a note says where not, or it is refused."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.byte_bpe import BYTE_TO_CHAR
from llama_core.tokenizers.from_files import (
    tokenizer_from_json,
    tokenizer_from_llama2c,
    tokenizer_from_llama3np,
)
from llama_core.tokenizers.gguf import export as gguf_export
from llama_core.tokenizers.gguf.export import tokenizer_to_gguf
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf
from llama_core.tokenizers.pretokenizers import RULES, splitter
from llama_core.tokenizers.probes import probes
from llama_core.tokenizers.vocabulary import TokenType

Json = dict[str, Any]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
# tiktoken's newer way of writing the same: possessive repeats, contractions gathered.
QWEN2_TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    TEKKEN.replace(r"\p{M}]+|", rf"\p{{M}}]+{SUFFIX}|")
    .replace(r"\p{M}]*|", rf"\p{{M}}]*{SUFFIX}|")
    .replace(r"|\p{N}|", r"|\p{N}{1,3}|")
)
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def byte_level(*steps: Json, use_regex: bool = False, **more: Any) -> Json:
    """A tokenizer.json with one token for each byte and no merge: every rule gives the same ids.

    more: parts of the file; those of its model under `model`.
    """
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}
    model = {"type": "BPE", "vocab": {char: i for i, char in enumerate(BYTE_TO_CHAR)}, "merges": []}
    parts = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]}, "decoder": last}
    return parts | more | {"model": model | more.get("model", {})}


def read(folder: Path, data: Json, **beside: Any) -> Tokenizer:
    """The tokenizer of the file and of those beside it."""
    for name, value in {"tokenizer": data, **beside}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return tokenizer_from_json(folder / "tokenizer.json")[0]


def export(tokenizer: Tokenizer, n_rows: int = 0) -> tuple[Json, Tokenizer, str]:
    """(the keys without their prefix, the tokenizer read from them, the notes in one string)."""
    keys, notes = tokenizer_to_gguf(tokenizer, n_rows or tokenizer.vocab_size)
    plain = {key.removeprefix("tokenizer.ggml."): value for key, value in keys.items()}
    return plain, tokenizer_from_gguf(keys, Path("m.gguf")), "\n".join(notes)


# --- which rule ---


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (byte_level(use_regex=True), "gpt-2"),
        (byte_level(DIGITS, use_regex=True), "smollm"),
        (byte_level(split(r"\p{N}"), use_regex=True), "smollm"),
        (byte_level(split(LLAMA3), model={"ignore_merges": True}), "llama-bpe"),
        (byte_level(split(LLAMA3)), "dbrx"),
        (byte_level(split(LLAMA3, "Removed", True)), "dbrx"),
        (byte_level(split(QWEN2)), "qwen2"),
        (byte_level(split(TEKKEN), model={"ignore_merges": True}), "tekken"),
        (byte_level(split(TEKKEN)), "tekken"),
        (byte_level(split(GPT4O)), "gpt-4o"),
        (
            byte_level(*map(split, ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+")), DIGITS),
            "deepseek-coder",
        ),
    ],
)
def test_the_rule_is_told_by_its_expressions(data: Json, name: str, tmp_path: Path) -> None:
    """The vocabulary has no merges: ids cannot tell one rule from another."""
    keys, _, notes = export(read(tmp_path, data))
    assert (keys["pre"], notes) == (name, "")


def test_expressions_in_other_words_are_told_by_many_texts(tmp_path: Path) -> None:
    keys, _, notes = export(read(tmp_path, byte_level(split(QWEN2_TIKTOKEN))))
    assert keys["pre"] == "qwen2"
    assert re.search(r"qwen2 was taken, which cuts [\d,]{3,} test texts alike", notes)


@pytest.mark.parametrize(
    "steps",
    [
        (split(QWEN2.replace(r"\p{N}", r"\p{N}{1,2}")),),  # digits in twos
        (split(QWEN2.replace("(?i:", "(?:")),),  # contractions in lower case alone
        (split(TEKKEN.replace("[\\r\\n/]*", "[\\r\\n]*")),),  # no slash behind punctuation
        (split(QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+")),),  # marks belong to words: Qwen3.5
        (split(" ", "MergedWithNext"),),
        (),
    ],
)
def test_a_rule_that_gguf_has_no_name_for(steps: Sequence[Json], tmp_path: Path) -> None:
    """The ids would be the same here too, so that only the expressions tell."""
    with pytest.raises(ValueError, match="no rule that GGUF knows cuts texts as this tokenizer does"):
        export(read(tmp_path, byte_level(*steps)))


def test_the_probes_tell_all_rules_apart() -> None:
    texts = list(probes())
    assert len(texts) > 500
    cuts = {r.patterns: [list(splitter(r.patterns)(text)) for text in texts] for r in RULES.values()}
    for one, other in combinations(cuts.values(), 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) > 20


def test_words_that_only_ignore_merges_finds(tmp_path: Path) -> None:
    """GGUF's rule for the expressions says whether; it matters where a word is a token without merges."""
    vocab = {char: i for i, char in enumerate([*BYTE_TO_CHAR, "ab"])}
    made = {"vocab": vocab, "merges": ["a b"]}
    assert export(read(tmp_path, byte_level(split(QWEN2), model=made | {"ignore_merges": True})))[0]["pre"]
    assert export(read(tmp_path, byte_level(split(TEKKEN), model=made)))[0]["pre"] == "tekken"
    for pattern, ignore in ((QWEN2, True), (TEKKEN, False)):
        model = {"vocab": vocab, "merges": [], "ignore_merges": ignore}
        with pytest.raises(ValueError, match="ignore_merges"):
            export(read(tmp_path, byte_level(split(pattern), model=model)))


@pytest.mark.parametrize("pattern", [LLAMA3, QWEN2, TEKKEN, GPT4O], ids=["dbrx", "qwen2", "tekken", "gpt-4o"])
def test_ids_are_those_of_the_source(
    pattern: str,
    byte_level_oracle: Callable[[Sequence[str] | None], tokenizers.Tokenizer],
    nasty_strings: list[str],
    tmp_path: Path,
) -> None:
    oracle = byte_level_oracle([pattern])
    oracle.save(str(tmp_path / "tokenizer.json"))
    _, again, _ = export(tokenizer_from_json(tmp_path / "tokenizer.json")[0])
    for text in nasty_strings:
        assert again.encode(text) == oracle.encode(text, add_special_tokens=False).ids


# --- normalizers, spaces, added tokens ---


def test_composing_normalizers(
    byte_level_oracle: Callable[[Sequence[str] | None], tokenizers.Tokenizer], tmp_path: Path
) -> None:
    data = json.loads(byte_level_oracle([QWEN2]).to_str())
    for normalizer in ({"type": "NFC"}, {"type": "Sequence", "normalizers": [{"type": "NFC"}]}):
        source = read(tmp_path, data | {"normalizer": normalizer})
        keys, again, notes = export(source)
        assert keys["pre"] == "qwen2"
        assert "NFC" in notes
        assert again.encode("naïve café \u1e69") == source.encode("naïve cafe\u0301 s\u0323\u0307")
    for kind in ("NFKC", "NFD"):
        with pytest.raises(ValueError, match="would become other tokens"):
            export(read(tmp_path, data | {"normalizer": {"type": kind}}))


def llama2_style(**parts: Any) -> Json:
    """A tokenizer.json as Llama 2's: BPE over characters with "\u2581" for spaces, bytes for the rest."""
    pairs = ("t h", "\u2581 th", "th e", "\u2581th e", "i n", "e r", "o n", "\u2581 a")
    merges = [pair.split(" ") for pair in pairs]
    letters = ["\u2581", *"etaoinshrdlu"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *letters, *(a + b for a, b in merges)]
    special = [{"id": i, "content": tokens[i], "special": True, "normalized": False} for i in range(3)]
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "merges": merges}
    model["vocab"] = {token: i for i, token in enumerate(tokens)}
    decoder = {"type": "Sequence", "decoders": decoders}
    return {"added_tokens": special, "decoder": decoder, "model": model} | parts


PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ],
}
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def test_a_llama2_style_tokenizer_becomes_scores(tmp_path: Path) -> None:
    """GGUF has no merges for this kind: each piece's score says how early it is merged."""
    before = read(tmp_path, llama2_style(normalizer=PREPEND), tokenizer_config=NAMES)
    keys, after, notes = export(before)
    assert (keys["model"], notes) == ("llama", "")
    for text in ("the other inn", "  then  the", "caf\u00e9 \u4f60\U0001f600", "other\n\tthe", "a"):
        assert after.encode(text) == before.encode(text)
        assert after.decode(before.encode(text)) == text
    assert len(before.encode("the inn")) < 6


@pytest.mark.parametrize("split_words", [True, False])
@pytest.mark.parametrize(
    ("scheme", "n_notes"),
    [("first", 2), ("always", 1), ("never", 0)],  # "first" also says: none behind a special token
)
def test_metaspace(scheme: str, n_notes: int, split_words: bool, tmp_path: Path) -> None:
    """It puts no second mark before a text that begins with a space; GGUF's rule does."""
    step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split_words}
    before = read(tmp_path, llama2_style(pre_tokenizer=step), tokenizer_config=NAMES)
    keys, after, notes = export(before)
    assert keys["add_space_prefix"] is (scheme != "never")
    assert len(notes.splitlines()) == n_notes
    for text in ("the other inn", "then  the ", "caf\u00e9 \u4f60\U0001f600", "\n other", ""):
        assert after.encode(text) == before.encode(text)
    same = after.encode(" the") == before.encode(" the")
    assert same is not ("begins with a space" in notes)
    beside = after.encode("a</s>the", special=True) == before.encode("a</s>the", special=True)
    assert beside is not ("beside a special or added token" in notes)


def test_added_tokens_that_swallow_spaces(tmp_path: Path) -> None:
    token = {"id": 256, "content": "[X]", "special": False, "normalized": False}
    plain = byte_level(split(QWEN2), added_tokens=[token])
    assert export(read(tmp_path, plain))[2] == ""
    for side in ("lstrip", "rstrip"):
        swallowing = byte_level(split(QWEN2), added_tokens=[token | {side: True}])
        assert "beside a special or added token" in export(read(tmp_path, swallowing))[2]


# --- names, roles, ends ---


def test_every_token_gets_a_name_of_its_own(tmp_path: Path) -> None:
    """Ids that nothing uses, and the embedding's spare rows."""
    added = [
        {"id": 260, "content": "<turn>", "special": True},
        {"id": 257, "content": "[PAD256]", "special": False, "normalized": False},
    ]
    before = read(tmp_path, byte_level(split(QWEN2), added_tokens=added))
    keys, after, notes = export(before, n_rows=263)
    assert keys["tokens"][256:] == [
        *("[[PAD256]]", "[PAD256]", "[PAD258]", "[PAD259]", "<turn>", "[PAD261]", "[PAD262]")
    ]
    assert np.flatnonzero(keys["token_type"] == TokenType.UNUSED).tolist() == [256, 258, 259, 261, 262]
    assert notes == ""
    for text in ("a<turn>[PAD256]b", "[PAD258]", "[[PAD256]]"):
        assert after.encode(text, special=True) == before.encode(text, special=True)


def test_texts_that_a_vocabulary_holds_twice(tmp_path: Path) -> None:
    """llama2.c takes the first; the later ones, which no text becomes, lose their names."""
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{b:02X}>".encode() for b in range(256))]
    pieces += [b" ", b"t", b"h", b"e", b"th", b"the", b"t", b"the"]
    body = b"".join(struct.pack("<fi", -i, len(p)) + p for i, p in enumerate(pieces))
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 6) + body)
    before = tokenizer_from_llama2c(tmp_path / "tokenizer.bin", len(pieces))
    keys, after, notes = export(before)
    assert keys["tokens"][-2:] == ["[PAD265]", "[PAD266]"]
    assert keys["token_type"][-2:].tolist() == [TokenType.UNUSED] * 2
    assert len(set(keys["tokens"])) == len(pieces)
    assert "are written as unused ones: 2." in notes
    for text in ("the tee", "hot"):
        assert after.encode(text) == before.encode(text)
    assert after.decode(after.encode("the hat")) == "the hat"


def test_a_repeated_text_that_would_change_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A special token with the text of an ordinary one that texts become: GGUF cannot keep both."""
    monkeypatch.setattr(gguf_export, "MAX_WORDS", 3)  # a large vocabulary's words are not all tried
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{b:02X}>".encode() for b in range(256))]
    pieces += [b" ", b"<", b"s", b">", b"<s", b"<s>"]
    body = b"".join(struct.pack("<fi", -i, len(p)) + p for i, p in enumerate(pieces))
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 6) + body)
    before = tokenizer_from_llama2c(tmp_path / "tokenizer.bin", len(pieces))
    assert (before.encode("<s>")[-1], before.encode("<s>", special=True)) == (264, [1])
    with pytest.raises(ValueError, match=r"<s>.* would become other tokens"):
        export(before)


def test_llama3np_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tokens = ["<unk>", "<s>", "</s>", "t", "h", "t"]
    path = tmp_path / "tokenizer.model.np"
    path.write_text(json.dumps({"tokens": tokens, "scores": [0.0] * 6}))
    with pytest.raises(ValueError, match=r"drops the characters .*--tokenizer tokenizer\.bin.* would work"):
        export(tokenizer_from_llama3np(path))


def ends_of(folder: Path, ends: list[int], names: Json) -> tuple[Tokenizer, Json, Tokenizer, str]:
    added = [{"id": 256 + i, "content": f"<end{i}>", "special": True} for i in range(5)]
    added += [{"id": 261, "content": "</s>", "special": True}]
    data = byte_level(split(QWEN2), added_tokens=added)
    before = read(folder, data, generation_config={"eos_token_id": ends}, tokenizer_config=names)
    return before, *export(before)


def test_end_tokens(tmp_path: Path) -> None:
    named = {"eos_token": "<end0>"}
    before, keys, after, notes = ends_of(tmp_path, [256, 260], named)
    assert after.stop_ids == before.stop_ids == {256, 260, 261}
    assert (keys["eos_token_id"], keys["eot_token_id"], keys.get("eom_token_id")) == (256, 260, None)
    before, keys, after, notes = ends_of(tmp_path, [256, 258, 260], named)
    assert after.stop_ids == before.stop_ids
    assert (keys["eot_token_id"], keys["eom_token_id"], notes) == (258, 260, "")
    before, keys, after, notes = ends_of(tmp_path, [256, 257, 258, 259, 260], named)
    assert after.stop_ids == before.stop_ids
    assert keys["eos_token_ids"].tolist() == [259, 260]
    assert "llama.cpp does not read, so that these do not end its replies: '<end3>', '<end4>'" in notes
    # No name for the end of a text: the first of the others takes its key.
    before, keys, after, notes = ends_of(tmp_path, [257, 258, 259], {})
    assert after.stop_ids == before.stop_ids
    assert keys["eos_token_id"] == 257


def test_roles_that_the_source_leaves_out_stay_out(tmp_path: Path) -> None:
    """Readers of scores have defaults for absent ids."""
    before = read(tmp_path, llama2_style(normalizer=PREPEND, added_tokens=[]))
    _, after, _ = export(before)
    assert (after.bos_id, after.eos_id, after.stop_ids) == (None, None, frozenset())
