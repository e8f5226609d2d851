"""Byte-level byte pair encoding, as in GPT-2, Llama 3, SmolLM and Qwen.

A text is cut into pieces (`pretokenizers.py`), each piece's UTF-8 bytes are written with one printable
character per byte, and neighbours are merged by rank. Source: Radford et al. 2019 (GPT-2) for the alphabet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from llama_core.tokenizers.merge import PieceIds, merge_symbols
from llama_core.tokenizers.pretokenizers import Rule, splitter
from llama_core.tokenizers.tokenizer import VocabularyTokenizer, raw_bytes, well_formed
from llama_core.tokenizers.vocabulary import TokenType, Vocabulary


def _byte_alphabet() -> str:
    """Character of each byte: itself where Latin-1 prints it, else the next free one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    substitutes = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(substitutes)) for byte in range(256))


BYTE_TO_CHAR = _byte_alphabet()
CHAR_TO_BYTE = {char: byte for byte, char in enumerate(BYTE_TO_CHAR)}


class ByteBPE(VocabularyTokenizer):
    """Byte-level BPE over a vocabulary with ranked merges.

    merges: `left right` strings in the order of their ranks, written in the byte alphabet, so the first
    space separates. A byte whose character is no token is dropped before merging, which is what the
    reference tokenizers do (the vocabulary of SmolLM2 lacks 21 bytes, among them the control character 0x04).
    """

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[str], rule: Rule, kind: str) -> None:
        super().__init__(vocabulary, kind)
        self._merges = merges
        self._rule = rule
        self._cache = PieceIds()

    @cached_property
    def _split(self) -> Callable[[str], Sequence[str]]:
        return splitter(self._rule.patterns)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return dict(zip(self._merges, range(len(self._merges)), strict=True))

    @cached_property
    def _symbol_of_byte(self) -> list[str]:
        return [char if char in self._vocabulary.text_to_id else "" for char in BYTE_TO_CHAR]

    @cached_property
    def _user_defined(self) -> frozenset[int]:
        return frozenset(self._vocabulary.ids_of_type(TokenType.USER_DEFINED))

    def _encode_text(self, text: str, *, first: bool, after_special: bool, special: bool) -> list[int]:
        ids: list[int] = []
        known = self._cache.get
        for piece in self._split(text):
            ids += known(piece) or self._encode_piece(piece)
        return ids

    def _encode_piece(self, piece: str) -> list[int]:
        table = self._vocabulary.text_to_id
        symbols = [self._symbol_of_byte[byte] for byte in well_formed(piece).encode()]
        whole = table.get("".join(symbols)) if self._rule.ignore_merges and all(symbols) else None
        if whole is not None:
            ids = [whole]
        else:
            ids = []
            for symbol in merge_symbols([s for s in symbols if s], self._ranks, " "):
                token_id = table.get(symbol)
                # A merge may name a token that the vocabulary lacks: its bytes stand in for it.
                ids += [token_id] if token_id is not None else [table[char] for char in symbol]
        return self._cache.keep(piece, ids)

    def _bytes_of(self, token_id: int) -> bytes:
        text = self._vocabulary.tokens[token_id]
        if token_id not in self._user_defined:
            try:
                return bytes([CHAR_TO_BYTE[char] for char in text])
            except KeyError:  # not written in the byte alphabet: an added token in plain text
                pass
        return raw_bytes(text)
