"""Reading Hugging Face's `tokenizer.json`: checks its fields and builds a `JsonBPE` from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from llama_core.config import MAX_VOCAB
from llama_core.tokenizers.huggingface.steps import (
    Malformed,
    Normalizer,
    Unsupported,
    field,
    flatten,
    normalizer,
    pre_tokenizer,
)
from llama_core.tokenizers.json_bpe import AddedTokens, BpeModel, JsonBPE
from llama_core.tokenizers.spm_bpe import BYTE_NAME
from llama_core.tokenizers.vocabulary import TokenType, Vocabulary

# Published vocabularies have at most a few hundred ids that nothing uses.
MAX_HOLES = 65_536
# Separators between the halves of a merge: the first that no half contains.
_SEPARATORS = (" ", "\x00", "\ufdd0", "\ufdd1", "\ufdd2")


@dataclass(frozen=True)
class Roles:
    """What the files beside `tokenizer.json` say; None where they say nothing."""

    bos_token: str | None = None
    eos_token: str | None = None
    add_bos: bool | None = None
    end_ids: tuple[int, ...] = ()


def tokenizer_from_parts(data: object, roles: Roles) -> JsonBPE:
    """The tokenizer that the JSON value describes. Raises Malformed or Unsupported, both with a sentence."""
    if not isinstance(data, dict):
        raise Malformed("an object expected")
    model = data.get("model")
    if not isinstance(model, dict):
        raise Malformed("model is missing")
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise Unsupported(f"the model type {str(kind)[:40]}; BPE is supported")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise Unsupported(f"the model's {name}")
    normalize = normalizer(data.get("normalizer"))
    steps, byte_level = pre_tokenizer(data.get("pre_tokenizer"))
    tokens, types, added = _vocabulary(data, model, normalize)
    used = (types != TokenType.UNUSED).tolist()
    table = dict(compress(zip(tokens, range(len(tokens)), strict=True), used))
    bpe = _model(model, table, byte_level)
    if bpe.unknown_id is not None:
        types[bpe.unknown_id] = TokenType.UNKNOWN
    space, strip = _decoder(data.get("decoder"), byte_level)
    first = _first_token(data.get("post_processor"))
    bos_id = table.get(roles.bos_token if roles.bos_token is not None else first or "")
    begins = first is not None and table.get(first) == bos_id
    vocabulary = Vocabulary(
        tokens,
        types,
        bos_id=bos_id,
        eos_id=table.get(roles.eos_token or ""),
        ends=[i for i in roles.end_ids if 0 <= i < len(tokens)],
        add_bos=begins if roles.add_bos is None else roles.add_bos,
    )
    return JsonBPE(
        vocabulary,
        replace(bpe, space=space, strip_space=strip),
        added,
        normalize,
        steps,
        "byte-level BPE (tokenizer.json)" if byte_level else "BPE (tokenizer.json)",
    )


def _vocabulary(
    data: Mapping[str, Any], model: Mapping[str, Any], normalize: Normalizer
) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int32]], AddedTokens]:
    vocab = field(model, "vocab", dict, {})
    entries = field(data, "added_tokens", list, [])
    texts: dict[int, str] = {}
    for text, token_id in vocab.items():
        texts[_id(token_id)] = text
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise Malformed("an added token is an object with content")
        texts[_id(entry.get("id"))] = entry["content"]
    if not texts:
        raise Malformed("the vocabulary is empty")
    size = max(texts) + 1
    if size > len(texts) + MAX_HOLES:
        raise Malformed(f"token id {size - 1:,} in a vocabulary of {len(texts):,}")
    tokens = [texts.get(i, "") for i in range(size)]
    types = np.full(size, TokenType.UNUSED, dtype=np.int32)
    types[list(texts)] = TokenType.NORMAL
    if field(model, "byte_fallback", bool, False):
        types[[i for i, text in texts.items() if BYTE_NAME.fullmatch(text)]] = TokenType.BYTE
    return tokens, types, _added(entries, types, normalize)


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_VOCAB:
        raise Malformed(f"token id {str(value)[:40]}, expected 0 to {MAX_VOCAB - 1}")
    return value


def _added(
    entries: list[dict[str, Any]], types: np.ndarray[Any, np.dtype[np.int32]], normalize: Normalizer
) -> AddedTokens:
    in_text: dict[str, int] = {}
    in_normalized: dict[str, int] = {}
    strips: dict[str, set[int]] = {"lstrip": set(), "rstrip": set()}
    for entry in entries:
        text, token_id = entry["content"], entry["id"]
        if field(entry, "single_word", bool, False):
            raise Unsupported("added tokens with single_word")
        special = field(entry, "special", bool, False)
        types[token_id] = TokenType.CONTROL if special else TokenType.USER_DEFINED
        if not special and not (text.startswith(("<|", "<｜")) and text.endswith(("|>", "｜>"))):
            if field(entry, "normalized", bool, True):
                in_normalized[normalize(text)] = token_id
            else:
                in_text[text] = token_id
        for name, found in strips.items():
            if field(entry, name, bool, False):
                found.add(token_id)
    return AddedTokens(in_text, in_normalized, frozenset(strips["lstrip"]), frozenset(strips["rstrip"]))


def _model(model: Mapping[str, Any], table: Mapping[str, int], byte_level: bool) -> BpeModel:
    merges, separator = _merges(field(model, "merges", list, []))
    unknown = field(model, "unk_token", str)
    if unknown is not None and unknown not in table:
        raise Malformed("unk_token is not in the vocabulary")
    return BpeModel(
        merges,
        separator,
        ignore_merges=field(model, "ignore_merges", bool, False),
        byte_fallback=field(model, "byte_fallback", bool, False),
        fuse_unknown=field(model, "fuse_unk", bool, False),
        unknown_id=None if unknown is None else table[unknown],
        byte_level=byte_level,
    )


def _merges(merges: list[Any]) -> tuple[list[str], str]:
    """The merges as strings `left + separator + right`, and the separator."""
    if all(isinstance(merge, str) for merge in merges):
        if any(merge.count(" ") != 1 for merge in merges):
            raise Malformed("a merge is two tokens with a space between")
        return merges, " "
    halves = []
    for merge in merges:
        if not (isinstance(merge, list) and len(merge) == 2 and all(isinstance(half, str) for half in merge)):
            raise Malformed("a merge is a pair of tokens")
        halves += merge
    every = "".join(halves)
    separator = next((mark for mark in _SEPARATORS if mark not in every), None)
    if separator is None:
        raise Unsupported("merges that contain every noncharacter")
    return [separator.join(merge) for merge in merges], separator


def _decoder(part: object, byte_level: bool) -> tuple[str, bool]:
    """(the character that stands for a space, whether a space at the begin is dropped)."""
    space, strip = "", False
    for step in flatten(part, "decoders"):
        kind = step["type"]
        if kind == "Metaspace":
            space = field(step, "replacement", str, "▁")
            legacy = "always" if field(step, "add_prefix_space", bool, True) else "never"
            strip = field(step, "prepend_scheme", str, legacy) != "never"
        elif kind == "Replace":
            pattern = field(step, "pattern", dict, {})
            if step.get("content") != " " or len(str(pattern.get("String", ""))) != 1:
                raise Unsupported("a decoder that replaces more than the mark of a space")
            space = pattern["String"]
        elif kind == "Strip":
            if (step.get("content"), step.get("start"), step.get("stop", 0)) != (" ", 1, 0):
                raise Unsupported("a decoder that strips more than one space at the begin")
            strip = True
        elif kind not in ("ByteLevel", "ByteFallback", "Fuse") or (kind == "ByteLevel") != byte_level:
            raise Unsupported(f"the decoder {kind}")
    return space, strip


def _first_token(part: object) -> str | None:
    """The special token that the post-processor puts before a text."""
    for step in flatten(part, "processors"):
        if step["type"] == "TemplateProcessing":
            single = field(step, "single", list, [])
            head = single[0] if single and isinstance(single[0], dict) else {}
            found = head.get("SpecialToken")
            name = found.get("id") if isinstance(found, dict) else None
            return name if isinstance(name, str) else None
    return None
