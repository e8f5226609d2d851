"""Reading Hugging Face's `tokenizer.json`: checks its fields and builds a `JsonBPE` from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.tokenizers.endings import is_marker, unmarked_markers
from llama_core.tokenizers.huggingface.added import AddedToken, added_token, numbered, token_id_of
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
from llama_core.tokenizers.vocabulary import BYTE_NAME, TokenType, Vocabulary, fit_to_rows

# Published vocabularies have at most a few hundred ids that nothing uses.
MAX_HOLES = 65_536
# Separators between the halves of a merge: the first that no half contains.
_SEPARATORS = (" ", "\x00", "\ufdd0", "\ufdd1", "\ufdd2")


@dataclass(frozen=True)
class Roles:
    """What the files beside `tokenizer.json` say; None where they say nothing.

    end_ids, end_tokens: what ends a reply. added: tokens with ids that `tokenizer.json` may lack; named:
    those that a role names.
    """

    bos_token: str | None = None
    eos_token: str | None = None
    add_bos: bool | None = None
    end_ids: tuple[int, ...] = ()
    end_tokens: tuple[str, ...] = ()
    added: tuple[AddedToken, ...] = ()
    named: tuple[AddedToken, ...] = ()


def tokenizer_from_parts(
    data: object, roles: Roles, *, n_rows: int | None = None, template: str | None = None
) -> JsonBPE:
    """The tokenizer that the JSON value describes. Raises Malformed or Unsupported, both with a sentence.

    n_rows: how many ids the model knows; None for as many as there are tokens. template: the chat template,
    which tells what is a marker (`endings.py`).
    """
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
    tokens, types, added = _vocabulary(data, model, roles, n_rows)
    used = (types != TokenType.UNUSED).tolist()
    table = dict(compress(zip(tokens, range(len(tokens)), strict=True), used))
    by_text = [table[text] for text in roles.end_tokens if text in table]
    ends = [i for i in (*roles.end_ids, *by_text) if 0 <= i < len(tokens)]
    types[list(unmarked_markers(tokens, types == TokenType.NORMAL, ends, template))] = TokenType.CONTROL
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
        ends=ends,
        add_bos=begins if roles.add_bos is None else roles.add_bos,
    )
    return JsonBPE(
        vocabulary,
        replace(bpe, space=space, strip_space=strip),
        _places(added, normalize, field(model, "vocab", dict, {})),
        normalize,
        steps,
        "byte-level BPE (tokenizer.json)" if byte_level else "BPE (tokenizer.json)",
    )


def _vocabulary(
    data: Mapping[str, Any], model: Mapping[str, Any], roles: Roles, n_rows: int | None
) -> tuple[Sequence[str], NDArray[np.int32], list[AddedToken]]:
    """(tokens by id, their types, those among them that are looked for whole)."""
    texts = {token_id_of(i): text for text, i in field(model, "vocab", dict, {}).items()}
    entries = []
    for entry in field(data, "added_tokens", list, []):
        if not isinstance(entry, dict):
            raise Malformed("an added token is an object with content")
        entries.append(added_token(entry, token_id_of(entry.get("id"))))
    added = numbered([*entries, *roles.added, *roles.named], texts)
    if not texts:
        raise Malformed("the vocabulary is empty")
    size = max(texts) + 1
    if size > len(texts) + MAX_HOLES:
        raise Malformed(f"token id {size - 1:,} in a vocabulary of {len(texts):,}")
    types = np.full(size, TokenType.UNUSED, dtype=np.int32)
    types[list(texts)] = TokenType.NORMAL
    if field(model, "byte_fallback", bool, False):
        types[[i for i, text in texts.items() if BYTE_NAME.fullmatch(text)]] = TokenType.BYTE
    for token_id, token in added.items():
        types[token_id] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    tokens, types = fit_to_rows([texts.get(i, "") for i in range(size)], types, n_rows)
    return tokens, types, [token for i, token in added.items() if i < len(tokens)]


def _places(added: Sequence[AddedToken], normalize: Normalizer, vocab: Mapping[str, int]) -> AddedTokens:
    """The added tokens by where they are looked for. vocab: the model's own tokens."""
    places: dict[tuple[bool, bool], dict[str, int]] = {
        (a, b): {} for a in (True, False) for b in (True, False)
    }
    flags: dict[str, set[int]] = {"lstrip": set(), "rstrip": set(), "single_word": set()}
    for token in added:
        token_id = token_id_of(token.id)
        text = normalize(token.content) if token.normalized else token.content
        places[token.special or is_marker(token.content), token.normalized][text] = token_id
        for name, ids in flags.items():
            if getattr(token, name):
                ids.add(token_id)
    return AddedTokens(
        in_text=places[False, False],
        in_normalized=places[False, True],
        special_in_normalized=places[True, True],
        lstrip=frozenset(flags["lstrip"]),
        rstrip=frozenset(flags["rstrip"]),
        single_word=frozenset(flags["single_word"]),
        beyond=frozenset(token_id_of(token.id) for token in added if token.content not in vocab),
    )


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
