"""Texts and a score vocabulary for the tokeniser experiments, made up the same way in every run."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from llama_core.errors import ModelFormatError
from llama_core.profiling.first_version.tokenizer import DictScoreTokenizer, ScoreTokenizer
from llama_core.profiling.texts import TEXT
from llama_core.tokenizers.from_files import tokenizer_from_llama2c, tokenizer_from_llama3np
from llama_core.tokenizers.merge import PieceIds
from llama_core.tokenizers.spm_bpe import SPACE, SpaceRules, SpmBPE
from llama_core.tokenizers.vocabulary import TokenType, Vocabulary

VOCAB_SIZE = 32000  # stories15M's
# Texts by id, and their scores.
Scored = tuple[tuple[str, ...], tuple[float, ...]]

T = TypeVar("T")


@cache
def words() -> tuple[str, ...]:
    """The distinct words of a paragraph and their compounds, commonest first."""
    known = list(dict.fromkeys(TEXT.lower().replace(",", "").replace(".", "").split()))
    return tuple(known + [left + right for left in known[:20] for right in known[:20]])


def text_of(n_characters: int, seed: int = 3) -> str:
    """That many characters of words, distributed as words are (Zipf)."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(words()))]
    text = ""
    while len(text) < n_characters:
        text += (" " if text else "") + rng.choices(words(), weights)[0]
    return text[:n_characters]


@cache
def vocabulary(duplicates: int = 0) -> Scored:
    """VOCAB_SIZE texts with scores, as llama3.np's file holds them: three marks, 256 characters, the letters
    a second time, the beginnings of words, and filler. `duplicates`: how many words stand in it twice."""
    letters = [chr(code) for code in range(256)]
    beginnings = [SPACE + word[:n] for word in words() for n in range(1, len(word) + 1)]
    inner = [word[:n] for word in words() for n in range(2, len(word) + 1)]
    merged = list(dict.fromkeys([SPACE, *beginnings, *inner]))
    rng = random.Random(5)
    texts = ["<unk>", "<s>", "</s>", *letters, *"abcdefghijklmnopqrstuvwxyz", *merged, *merged[:duplicates]]
    alphabet = "qxzjvkwy"
    texts += ["".join(rng.choices(alphabet, k=7)) for _ in range(VOCAB_SIZE - len(texts))]
    scores = [0.0] * 3 + [-1e6] * 256 + [float(-i) for i in range(len(texts) - 259)]
    return tuple(texts), tuple(scores)


def uncached(tokenizer: T) -> T:
    """The engine's tokenizer without its cache of pieces: every word is merged anew.

    With it, the second run over a text would measure one lookup a word.
    """
    bare = copy.copy(tokenizer)
    vars(bare).update(_cache=PieceIds(longest=0))
    return bare


def real_vocabulary(path: Path) -> Scored:
    """The texts and scores of a tokenizer file of llama2.c's (`.bin`) or llama3.np's (`.model.np`) kind.

    Raises ModelFormatError for a file that holds none, OSError.
    """
    made = (
        tokenizer_from_llama2c(path, VOCAB_SIZE) if path.suffix == ".bin" else tokenizer_from_llama3np(path)
    )
    if not isinstance(made, SpmBPE):
        raise ModelFormatError(
            path, "tokenizer", "has no scores, which the published first version merges by"
        )
    return tuple(made._vocabulary.tokens), tuple(made._scores.tolist())


def duplicates_sentence(name: str, texts: Sequence[str]) -> str:
    """How many texts stand in a vocabulary more than once, with the places of one of them."""
    places: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        places.setdefault(text, []).append(i)
    twice = [text for text, found in places.items() if len(found) > 1]
    shown = "a" if "a" in twice else twice[0] if twice else ""
    example = f", {shown!a} at {places[shown]}" if twice else ""
    return f"{name}: {len(texts):,} entries, {len(places):,} different{example}"


def list_tokenizer(scored: Scored) -> ScoreTokenizer:
    """The published first version."""
    return ScoreTokenizer(*scored)


def dict_tokenizer(scored: Scored) -> DictScoreTokenizer:
    """The same with a dict for the look-ups."""
    return DictScoreTokenizer(*scored)


def engine_tokenizer(scored: Scored | None = None, *, cached: bool = True) -> SpmBPE:
    """What the engine makes of the same vocabulary (default: the made-up one)."""
    texts, scores = scored or vocabulary()
    types = np.full(len(texts), TokenType.NORMAL, dtype=np.int32)
    types[:3] = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL)
    table = Vocabulary(texts, types, bos_id=1, eos_id=2, add_bos=True, first_wins=True)
    rules = SpaceRules(add_prefix=False, drop_unknown=True)
    made = SpmBPE(table, np.array(scores, dtype=np.float32), unknown_id=0, rules=rules, kind="BPE by scores")
    return made if cached else uncached(made)
