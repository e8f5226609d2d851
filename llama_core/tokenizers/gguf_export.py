"""A tokenizer as GGUF metadata: the reverse of `from_gguf.py`, for `models convert`.

GGUF names a rule instead of carrying one (`tokenizer.ggml.pre`), so a tokenizer that was read from another
format is compared with what the metadata would make of it, on texts that tell the rules apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.from_gguf import PREFIX, tokenizer_from_gguf
from llama_core.tokenizers.json_bpe import JsonBPE
from llama_core.tokenizers.spm_bpe import SpmBPE
from llama_core.tokenizers.tokenizer import VocabularyTokenizer
from llama_core.tokenizers.vocabulary import TokenType

# One name for each rule; the commonest first, because a small vocabulary cannot tell all of them apart.
RULE_NAMES = ("llama-bpe", "smollm", "gpt-2", "qwen2", "dbrx", "tekken", "gpt-4o", "deepseek-coder", "falcon")
# Digits, spaces, line feeds, contractions, capitals, scripts and marks, each where rules differ.
PROBES = (
    "Hello world, it's 12345 o'clock -- isn't IT'S 9?",
    " leading, trailing ",
    "tabs\tand\n\nline feeds \n  indent\r\n    more",
    "CamelCaseHTTPServer snake_case x=y+1; // (a[0]) {b} ... !!!???",
    "caf\u00e9 \u00fcber na\u00efve \u0410\u043b\u0438\u0441\u0430",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093 \ud55c\uad6d",
    "\u0939\u093f\u0928\u094d\u0926\u0940 e\u0301 \U0001f600\U0001f468\u200d\U0001f469 \u2153 \u0663\u0664",
    "1,234.56 100% $5 #1 @me",
    "the end of the text and then in the rain   of   spaces",
)


def tokenizer_to_gguf(tokenizer: Tokenizer, n_rows: int) -> dict[str, Any]:
    """The keys `tokenizer.ggml.*` that describe `tokenizer`.

    n_rows: rows of the embedding; GGUF wants a token for each, so spare rows get unused ones. Raises
    ValueError with a sentence where GGUF has no words for the tokenizer.
    """
    for metadata in _candidates(tokenizer):
        again = tokenizer_from_gguf(_absolute(metadata), Path("metadata"))
        if all(again.encode(text) == tokenizer.encode(text) for text in PROBES):
            return _absolute(_padded(metadata, n_rows))
    raise ValueError(f"no rule that GGUF knows cuts texts as this tokenizer does ({tokenizer.kind})")


def _absolute(metadata: dict[str, Any]) -> dict[str, Any]:
    return {PREFIX + key: value for key, value in metadata.items()}


def _candidates(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Descriptions that may fit, without the prefix of their keys."""
    if isinstance(tokenizer, SpmBPE):
        table = _common(tokenizer)
        yield _scored(table, tokenizer._scores, tokenizer._rules.add_prefix)
    elif isinstance(tokenizer, JsonBPE) and tokenizer._model.byte_level:
        merges = [" ".join(merge.split(tokenizer._model.separator)) for merge in tokenizer._model.merges]
        for name in RULE_NAMES:
            yield _common(tokenizer) | {"model": "gpt2", "pre": name, "merges": merges}
    elif isinstance(tokenizer, JsonBPE):
        for add_prefix in (True, False):
            yield _scored(_common(tokenizer), _scores_of_merges(tokenizer), add_prefix)


def _common(tokenizer: VocabularyTokenizer) -> dict[str, Any]:
    vocabulary = tokenizer._vocabulary
    tokens = list(vocabulary.tokens)
    if len(set(tokens)) < len(tokens):
        raise ValueError("its vocabulary holds a token twice, which GGUF cannot express")
    types = np.full(len(tokens), TokenType.NORMAL, np.int32) if vocabulary.types is None else vocabulary.types
    common = {"tokens": tokens, "token_type": types.astype(np.int32), "add_bos_token": tokenizer.add_bos}
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    unknown = vocabulary.ids_of_type(TokenType.UNKNOWN)
    ids["unknown_token_id"] = unknown[0] if unknown else None
    return common | {key: value for key, value in ids.items() if value is not None}


def _scored(common: dict[str, Any], scores: Any, add_prefix: bool) -> dict[str, Any]:
    return common | {
        "model": "llama",
        "scores": np.asarray(scores, np.float32),
        "add_space_prefix": add_prefix,
    }


def _scores_of_merges(tokenizer: JsonBPE) -> list[float]:
    """Scores under which pieces merge in the order of the ranks: less for each later merge."""
    table = tokenizer._vocabulary.mergeable
    scores = [-1e6] * tokenizer.vocab_size
    for rank, merge in reversed(list(enumerate(tokenizer._model.merges))):
        token_id = table.get(merge.replace(tokenizer._model.separator, ""))
        if token_id is not None:
            scores[token_id] = -float(rank)
    return scores


def _padded(metadata: dict[str, Any], n_rows: int) -> dict[str, Any]:
    """With an unused token for each spare row of the embedding."""
    spare = range(len(metadata["tokens"]), n_rows)
    padded = metadata | {
        "tokens": metadata["tokens"] + [f"[PAD{number}]" for number in spare],
        "token_type": np.append(metadata["token_type"], np.full(len(spare), TokenType.UNUSED, np.int32)),
    }
    if "scores" in metadata:
        padded["scores"] = np.append(metadata["scores"], np.full(len(spare), -1e6, np.float32))
    return padded
