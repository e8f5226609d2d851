"""A tokenizer from GGUF metadata (keys `tokenizer.ggml.*`). Source: the GGUF specification of ggml."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.config import MAX_VOCAB
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.byte_bpe import ByteBPE
from llama_core.tokenizers.endings import unmarked_markers
from llama_core.tokenizers.pretokenizers import RULES
from llama_core.tokenizers.spm_bpe import SpaceRules, SpmBPE
from llama_core.tokenizers.vocabulary import BYTE_NAME, TokenType, Vocabulary, fit_to_rows

PREFIX = "tokenizer.ggml."
END_LIST_KEY = "eos_token_ids"
# Kinds of tokenizers, as `tokenizer.ggml.model` has them.
BYTE_BPE, SPM_BPE = "gpt2", "llama"
# A token id for "none": -1 as an unsigned number.
NO_ID = 0xFFFFFFFF
# Of a token that no merge may make: below any score.
NEVER = -1e9

_log = logging.getLogger(__name__)


def tokenizer_from_gguf(
    metadata: Mapping[str, Any], path: Path, *, n_rows: int | None = None, template: str | None = None
) -> Tokenizer:
    """The tokenizer that the metadata of the GGUF file at `path` describes.

    n_rows: how many ids the model knows (`vocabulary.fit_to_rows`); None for as many as there are tokens.
    template: the chat template, which tells what is a marker (`endings.py`). Raises ModelFormatError naming
    the key that is missing or wrong, UnsupportedModelError for a kind of tokenizer or a pre-tokenizer name
    that is not known here: guessing would give wrong ids in silence.
    """
    check_kind(metadata, path)
    fields = _Fields(metadata, path, n_rows, template)
    return _byte_bpe(fields) if fields.text("model") == BYTE_BPE else _spm_bpe(fields)


def check_kind(metadata: Mapping[str, Any], path: Path) -> None:
    """Raise as `tokenizer_from_gguf` where the kind is none that is known here; needs no list of tokens."""
    fields = _Fields(metadata, path, None, None)
    model, rule = fields.text("model"), fields.text("pre", "")
    if model not in (BYTE_BPE, SPM_BPE):
        raise UnsupportedModelError(
            path,
            PREFIX + "model",
            f"tokenizer kind {model!r}; byte-level BPE (gpt2) and BPE by scores (llama) are supported",
        )
    if model == BYTE_BPE and rule and rule not in RULES:
        raise UnsupportedModelError(
            path, PREFIX + "pre", f"pre-tokenizer {rule!r} is not known; known are {', '.join(sorted(RULES))}"
        )


class _Fields:
    """Checked access to the tokenizer's keys."""

    def __init__(
        self, metadata: Mapping[str, Any], path: Path, n_rows: int | None, template: str | None
    ) -> None:
        self._metadata = metadata
        self.path = path
        self.n_rows = n_rows
        self.template = template

    def error(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(self.path, PREFIX + key, problem)

    def has(self, key: str) -> bool:
        return PREFIX + key in self._metadata

    def _typed(self, key: str, kind: type, default: Any, what: str) -> Any:
        value = self._metadata.get(PREFIX + key, default)
        if value is default:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"{what} expected, found {type(value).__name__}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value: str | None = self._typed(key, str, default, "a string")
        if value is None:
            raise self.error(key, "missing")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value: bool = self._typed(key, bool, default, "true or false")
        return value

    def strings(self, key: str) -> list[str]:
        value = self._typed(key, list, None, "an array of strings")
        if value is None:
            raise self.error(key, "missing")
        if value and not isinstance(value[0], str):
            raise self.error(key, "an array of strings expected")
        strings: list[str] = value
        return strings

    def numbers(self, key: str, length: int, kind: str) -> NDArray[Any] | None:
        """An array of `length` numbers of NumPy kind `kind` ("iu" or "f"), or None where it is absent."""
        value = self._typed(key, np.ndarray, None, "an array of numbers")
        if value is None:
            return None
        if value.ndim != 1 or value.dtype.kind not in kind:
            raise self.error(key, f"an array of {'integers' if 'i' in kind else 'floats'} expected")
        if len(value) != length:
            raise self.error(key, f"{len(value)} entries for {length} tokens")
        array: NDArray[Any] = value
        return array

    def token_id(self, key: str, vocab_size: int, default: int | None = None) -> int | None:
        """The id under `key`. default: where the key is absent or its id is no token's, if the vocabulary
        reaches so far; as llama.cpp, whose files are often edited by hand."""
        value: int | None = self._typed(key, int, None, "a token id")
        if value in (-1, NO_ID):  # some converters write the one, some the other
            return None
        if value is not None and 0 <= value < vocab_size:
            return value
        if value is not None and 0 <= value < len(self.strings("tokens")):
            return None  # a token that the model has no row for
        usable = default if default is not None and default < vocab_size else None
        if value is not None:
            self._warn_of_id(
                key, value, vocab_size, f"{'none' if usable is None else usable} is used instead"
            )
        return usable

    def end_list(self, vocab_size: int) -> list[int]:
        """Further ids that end a reply."""
        value = self._typed(END_LIST_KEY, np.ndarray, None, "an array of token ids")
        if value is None:
            return []
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise self.error(END_LIST_KEY, "an array of integers expected")
        ids: list[int] = value.tolist()
        for i in ids:
            if not 0 <= i < vocab_size:
                self._warn_of_id(END_LIST_KEY, i, vocab_size, "it is passed over")
        return [i for i in ids if 0 <= i < vocab_size]

    def _warn_of_id(self, key: str, value: int, vocab_size: int, instead: str) -> None:
        where = f"{self.path}: {PREFIX}{key}"
        _log.warning("%s: id %d is outside the vocabulary of %d; %s", where, value, vocab_size, instead)


def _vocabulary(
    fields: _Fields, *, add_bos: bool, bos_id: int | None = None, eos_id: int | None = None
) -> Vocabulary:
    """add_bos, bos_id, eos_id: where the file says nothing."""
    tokens = fields.strings("tokens")
    n = len(tokens)
    if not 1 <= n <= MAX_VOCAB:
        raise fields.error("tokens", f"{n} tokens, expected 1 to {MAX_VOCAB}")
    types = fields.numbers("token_type", n, "iu")
    if types is None and fields.text("model") == "llama":
        # Files from before the key existed; sentencepiece names its byte tokens, the rest is by id.
        byte = [BYTE_NAME.fullmatch(token) is not None for token in tokens]
        types = np.where(byte, TokenType.BYTE, TokenType.NORMAL)
        types[[0, *(i for i in (1, 2) if i < n)]] = [TokenType.UNKNOWN, *[TokenType.CONTROL] * min(n - 1, 2)]
    if types is None:
        types = np.full(n, TokenType.NORMAL)
    # A spare row may be named, as an end that no text is spelled with.
    texts, types = fit_to_rows(tokens, types.astype(np.int32), fields.n_rows)
    n = len(texts)
    eos = fields.token_id("eos_token_id", n, eos_id)
    given = [eos, *(fields.token_id(f"{name}_token_id", n) for name in ("eot", "eom")), *fields.end_list(n)]
    ends = {i for i in given if i is not None}
    markers = unmarked_markers(texts, types == TokenType.NORMAL, ends, fields.template)
    types[list(markers)] = TokenType.CONTROL
    return Vocabulary(
        texts,
        types,
        bos_id=fields.token_id("bos_token_id", n, bos_id),
        eos_id=eos,
        ends=ends,
        add_bos=fields.flag("add_bos_token", add_bos),
    )


def _spm_bpe(fields: _Fields) -> SpmBPE:
    n_scores = len(fields.strings("tokens"))
    scores = fields.numbers("scores", n_scores, "f")
    if scores is None:
        raise fields.error("scores", "missing")
    if np.isnan(scores).any():
        raise fields.error("scores", "one is not a number")
    # Without keys the ids are sentencepiece's own, as llama.cpp has it.
    vocabulary = _vocabulary(fields, add_bos=True, bos_id=1, eos_id=2)
    n = len(vocabulary)
    return SpmBPE(
        vocabulary,
        np.pad(scores[:n].astype(np.float32), (0, max(0, n - n_scores)), constant_values=NEVER),
        unknown_id=fields.token_id("unknown_token_id", n, 0),
        rules=SpaceRules(
            add_prefix=fields.flag("add_space_prefix", True),
            remove_extra=fields.flag("remove_extra_whitespaces", False),
        ),
        kind="BPE by scores (sentencepiece)",
    )


def _byte_bpe(fields: _Fields) -> ByteBPE:
    name = fields.text("pre", "")
    if not name:
        # Files from before the key existed: Llama 3 shows itself by its tokens (llama.cpp cuts its texts by
        # the default all the same, and warns that replies get worse).
        name = "llama-bpe" if "<|begin_of_text|>" in fields.strings("tokens") else "default"
    rule = RULES[name]
    vocabulary = _vocabulary(fields, add_bos=rule.add_bos)
    merges = fields.strings("merges")
    return ByteBPE(vocabulary, merges, rule, f"byte-level BPE ({name})")
