"""Byte pair encoding by scores, as sentencepiece does it for Llama 1 and 2, Mistral and TinyStories.

Spaces become "▁" (U+2581), a text gets one in front, and neighbours whose join is a piece are merged, the
highest score first. What is no piece falls back to byte tokens `<0xNN>`, or to the unknown token.
Source: Kudo and Richardson 2018 (arXiv:1808.06226) and the behaviour of the sentencepiece library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.merge import PieceIds, merge_symbols
from llama_core.tokenizers.tokenizer import VocabularyTokenizer, raw_bytes, well_formed
from llama_core.tokenizers.vocabulary import Vocabulary

SPACE = "▁"
_WORD = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
_SPACE_INSIDE = re.compile(f"[^{SPACE}]{SPACE}")


@dataclass(frozen=True, slots=True)
class SpaceRules:
    """add_prefix: a space goes before a text (at its begin and after each special token), and `decode`
    drops it again. remove_extra: spaces at the ends go, runs become one. drop_unknown: a character that
    is no piece vanishes instead of becoming bytes or the unknown token."""

    add_prefix: bool = True
    remove_extra: bool = False
    drop_unknown: bool = False


class SpmBPE(VocabularyTokenizer):
    """Score-based BPE.

    scores: (vocab_size,) float32, higher merges first. unknown_id: what a character without piece and
    bytes becomes (neighbouring ones together, as in sentencepiece), or None to drop it.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        scores: NDArray[np.float32],
        *,
        unknown_id: int | None,
        rules: SpaceRules,
        kind: str,
    ) -> None:
        super().__init__(vocabulary, kind)
        self._scores = scores
        self._unknown_id = unknown_id
        self._rules = rules
        self._cache = PieceIds()

    @cached_property
    def _matcher(self) -> TokenMatcher:
        # User-defined pieces are looked for after the spaces have become "▁" (`_encode_text`).
        return self._match({})

    @cached_property
    def _special_matcher(self) -> TokenMatcher:
        return self._match(self._vocabulary.special_tokens)

    @cached_property
    def _user_defined(self) -> TokenMatcher:
        return self._match(self._vocabulary.plain_added)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """Rank of each mergeable piece: its place among the distinct scores, the highest first."""
        table = self._vocabulary.mergeable
        _, ranks = np.unique(-self._scores, return_inverse=True)
        return dict(zip(table, ranks[list(table.values())].tolist(), strict=True))

    @cached_property
    def _unused(self) -> frozenset[str]:
        return frozenset(self._vocabulary.mergeable) - frozenset(self._vocabulary.text_to_id)

    @cached_property
    def _words_are_separate(self) -> bool:
        """Whether no piece has a "▁" behind another character: then no merge crosses into a new word."""
        return not any(map(_SPACE_INSIDE.search, self._vocabulary.mergeable))

    def _encode_text(self, text: str, *, first: bool, after_special: bool, special: bool) -> list[int]:
        text = well_formed(text)
        if self._rules.remove_extra:
            text = re.sub(" +", " ", text.lstrip(" "))
        if not text:
            return []
        if self._rules.add_prefix and after_special:
            text = " " + text
        text = text.replace(" ", SPACE)
        if self._rules.remove_extra:
            text = text.rstrip(SPACE)
        if self._rules.drop_unknown:  # before merging, so that what stood around it may merge
            text = "".join(filter(self._vocabulary.text_to_id.__contains__, text))
        ids: list[int] = []
        for part in self._user_defined.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                for word in _WORD.findall(part) if self._words_are_separate else [part]:
                    ids += self._cache.get(word) or self._encode_word(word)
        return self._join_unknown(ids)

    def _encode_word(self, word: str) -> list[int]:
        ids = [i for symbol in merge_symbols(list(word), self._ranks, "") for i in self._ids_of(symbol)]
        return self._cache.keep(word, ids)

    def _ids_of(self, symbol: str) -> Iterable[int]:
        token_id = self._vocabulary.text_to_id.get(symbol)
        if token_id is not None:
            return [token_id]
        if symbol in self._unused and len(symbol) > 1:
            # An unused piece may be merged through but not given out: it falls into what it was made of.
            parts = merge_symbols(list(symbol), _Without(self._ranks, symbol), "")
            return [i for part in parts for i in self._ids_of(part)]
        data = symbol.encode()
        if all(byte in self._vocabulary.byte_ids for byte in data):
            return [self._vocabulary.byte_ids[byte] for byte in data]
        return [] if self._unknown_id is None else [self._unknown_id]

    def _join_unknown(self, ids: list[int]) -> list[int]:
        unknown = self._unknown_id
        if unknown is None or unknown not in ids:
            return ids
        return [i for k, i in enumerate(ids) if i != unknown or k == 0 or ids[k - 1] != unknown]

    def _bytes_of(self, token_id: int) -> bytes:
        text = self._vocabulary.tokens[token_id]
        byte = self._vocabulary.byte_of(token_id)
        if byte is not None:
            return bytes([byte])
        return raw_bytes(text.replace(SPACE, " "))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without the space that `encode` puts in front, so that it inverts `encode`.

        `stream()` keeps that space: a reply goes on with a text that stands before it.
        """
        text = super().decode(ids)
        if self._rules.remove_extra:
            return text.lstrip(" ")
        return text.removeprefix(" ") if self._rules.add_prefix else text


class _Without:
    """Ranks without one piece; a view, because a copy of a large table would take milliseconds."""

    def __init__(self, ranks: dict[str, int], piece: str) -> None:
        self._ranks = ranks
        self._piece = piece

    def get(self, key: str, default: int) -> int:
        return default if key == self._piece else self._ranks.get(key, default)
