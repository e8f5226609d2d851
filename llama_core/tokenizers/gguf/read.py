"""A tokenizer from GGUF metadata (keys `tokenizer.ggml.*`). Source: the GGUF specification of ggml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.config import MAX_VOCAB
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.byte_bpe import ByteBPE
from llama_core.tokenizers.pretokenizers import RULES
from llama_core.tokenizers.spm_bpe import BYTE_NAME, SpaceRules, SpmBPE
from llama_core.tokenizers.vocabulary import TokenType, Vocabulary

PREFIX = "tokenizer.ggml."
# A token id for "none": -1 as an unsigned number.
NO_ID = 0xFFFFFFFF


def tokenizer_from_gguf(metadata: Mapping[str, Any], path: Path) -> Tokenizer:
    """The tokenizer that the metadata of the GGUF file at `path` describes.

    Raises ModelFormatError naming the key that is missing or wrong, UnsupportedModelError for a kind of
    tokenizer or a pre-tokenizer name that is not known here: guessing would give wrong ids in silence.
    """
    fields = _Fields(metadata, path)
    model = fields.text("model")
    if model == "gpt2":
        return _byte_bpe(fields)
    if model == "llama":
        return _spm_bpe(fields)
    raise UnsupportedModelError(
        path,
        PREFIX + "model",
        f"tokenizer kind {model!r}; byte-level BPE (gpt2) and BPE by scores (llama) are supported",
    )


class _Fields:
    """Checked access to the tokenizer's keys."""

    def __init__(self, metadata: Mapping[str, Any], path: Path) -> None:
        self._metadata = metadata
        self.path = path

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
        """The id under `key`. default: where the key is absent, if the vocabulary reaches so far."""
        value: int | None = self._typed(key, int, None, "a token id")
        if value is None:
            return default if default is not None and default < vocab_size else None
        if value in (-1, NO_ID):  # some converters write the one, some the other
            return None
        if not 0 <= value < vocab_size:
            raise self.error(key, f"id {value} is outside the vocabulary of {vocab_size}")
        return value


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
    ends = (fields.token_id(f"{name}_token_id", n) for name in ("eot", "eom"))
    return Vocabulary(
        tokens,
        None if types is None else types.astype(np.int32),
        bos_id=fields.token_id("bos_token_id", n, bos_id),
        eos_id=fields.token_id("eos_token_id", n, eos_id),
        ends=[end for end in ends if end is not None],
        add_bos=fields.flag("add_bos_token", add_bos),
    )


def _spm_bpe(fields: _Fields) -> SpmBPE:
    # Without keys the ids are sentencepiece's own, as llama.cpp has it.
    vocabulary = _vocabulary(fields, add_bos=True, bos_id=1, eos_id=2)
    n = len(vocabulary)
    scores = fields.numbers("scores", n, "f")
    if scores is None:
        raise fields.error("scores", "missing")
    if np.isnan(scores).any():
        raise fields.error("scores", "one is not a number")
    return SpmBPE(
        vocabulary,
        scores.astype(np.float32),
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
    rule = RULES.get(name)
    if rule is None:
        raise UnsupportedModelError(
            fields.path,
            PREFIX + "pre",
            f"pre-tokenizer {name!r} is not known; known are {', '.join(sorted(RULES))}",
        )
    vocabulary = _vocabulary(fields, add_bos=rule.add_bos)
    merges = fields.strings("merges")
    return ByteBPE(vocabulary, merges, rule, f"byte-level BPE ({name})")
