"""The BPE model of a Hugging Face `tokenizer.json`, over bytes or over characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.byte_bpe import BYTE_TO_CHAR, CHAR_TO_BYTE
from llama_core.tokenizers.huggingface.steps import Normalizer, Step
from llama_core.tokenizers.merge import PieceIds, merge_symbols
from llama_core.tokenizers.tokenizer import VocabularyTokenizer, raw_bytes, well_formed
from llama_core.tokenizers.vocabulary import TokenType, Vocabulary


@dataclass(frozen=True)
class AddedTokens:
    """The added tokens of the folder by where they are found: in the text as it is, or as normalized. Special
    ones are in the vocabulary, and here where they are found in normalized text. lstrip, rstrip, single_word:
    ids, as `TokenMatcher` has them. beyond: ids that the model's own vocabulary lacks, so that no merge gives
    them."""

    in_text: Mapping[str, int] = field(default_factory=dict)
    in_normalized: Mapping[str, int] = field(default_factory=dict)
    special_in_normalized: Mapping[str, int] = field(default_factory=dict)
    lstrip: frozenset[int] = frozenset()
    rstrip: frozenset[int] = frozenset()
    single_word: frozenset[int] = frozenset()
    beyond: frozenset[int] = frozenset()


@dataclass(frozen=True)
class BpeModel:
    """The `model` of the file. merges: `left + separator + right` in order of rank. space: the character that
    stands for a space in tokens ("" for none); strip_space: whether decoding drops one at the begin."""

    merges: Sequence[str]
    separator: str
    ignore_merges: bool = False
    byte_fallback: bool = False
    fuse_unknown: bool = False
    unknown_id: int | None = None
    byte_level: bool = False
    space: str = ""
    strip_space: bool = False


class JsonBPE(VocabularyTokenizer):
    """Normalize, find added tokens, cut into pieces, merge each by rank."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        model: BpeModel,
        added: AddedTokens,
        normalize: Normalizer,
        steps: Sequence[Step],
        kind: str,
    ) -> None:
        super().__init__(vocabulary, kind)
        self._model = model
        self._added = added
        self._normalize = normalize
        self._steps = steps
        self._cache = PieceIds()

    @cached_property
    def _matcher(self) -> TokenMatcher:
        return self._match(self._added.in_text)

    @cached_property
    def _special_matcher(self) -> TokenMatcher:
        later = frozenset(self._added.special_in_normalized.values())
        special = {text: i for text, i in self._vocabulary.special_tokens.items() if i not in later}
        return self._match({**self._added.in_text, **special})

    @cached_property
    def _normalized_matcher(self) -> TokenMatcher:
        return self._match(self._added.in_normalized)

    @cached_property
    def _special_normalized_matcher(self) -> TokenMatcher:
        return self._match({**self._added.in_normalized, **self._added.special_in_normalized})

    def _match(self, ids: Mapping[str, int]) -> TokenMatcher:
        added = self._added
        return TokenMatcher(ids, lstrip=added.lstrip, rstrip=added.rstrip, single_word=added.single_word)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return dict(zip(self._model.merges, range(len(self._model.merges)), strict=True))

    @cached_property
    def _table(self) -> dict[str, int]:
        """Ids of the tokens that a piece may become."""
        kept = dict(self._vocabulary.text_to_id)
        for token_id in self._added.beyond:
            text = self._vocabulary.tokens[token_id]
            if kept.get(text) == token_id:
                del kept[text]
        return kept

    def _encode_text(self, text: str, *, first: bool, after_special: bool, special: bool) -> list[int]:
        ids: list[int] = []
        matcher = self._special_normalized_matcher if special else self._normalized_matcher
        for index, part in enumerate(matcher.split(self._normalize(well_formed(text)))):
            if isinstance(part, int):
                ids.append(part)
                continue
            for piece in self.pieces(part, begins=first and index == 0):
                known = self._cache.get(piece)
                ids += self._encode_piece(piece) if known is None else known
        return ids

    def pieces(self, text: str, *, begins: bool = True) -> list[str]:
        """A normalized text as the pre-tokenizer cuts it. begins: whether it is the begin of the input."""
        pieces = [text] if text else []
        for step in self._steps:
            pieces = step.run(pieces, begins)
        return pieces

    def _encode_piece(self, piece: str) -> list[int]:
        model, table = self._model, self._table
        text = "".join(BYTE_TO_CHAR[byte] for byte in raw_bytes(piece)) if model.byte_level else piece
        whole = table.get(text) if model.ignore_merges else None
        ids = [whole] if whole is not None else list(self._merge(text))
        return self._cache.keep(piece, ids)

    def _merge(self, text: str) -> Iterable[int]:
        """Merge the known characters; unknown ones split the text into stretches without merges across them,
        or vanish when the file names no unknown token."""
        table = self._table
        known: list[str] = []
        was_unknown = False
        for char in text:
            if char in table:
                known.append(char)
                was_unknown = False
                continue
            ids = self._unknown(char)
            if not ids:
                continue
            yield from self._merge_known(known)
            known = []
            fused = was_unknown and self._model.fuse_unknown and ids == [self._model.unknown_id]
            yield from [] if fused else ids
            was_unknown = ids == [self._model.unknown_id]
        yield from self._merge_known(known)

    def _merge_known(self, symbols: list[str]) -> Iterable[int]:
        table = self._table
        for symbol in merge_symbols(symbols, self._ranks, self._model.separator):
            token_id = table.get(symbol)
            # A merge may name a token that the vocabulary lacks: its characters stand in for it.
            yield from [token_id] if token_id is not None else [table[char] for char in symbol]

    def _unknown(self, char: str) -> list[int]:
        if self._model.byte_fallback:
            data = raw_bytes(char)
            if all(byte in self._vocabulary.byte_ids for byte in data):
                return [self._vocabulary.byte_ids[byte] for byte in data]
        return [] if self._model.unknown_id is None else [self._model.unknown_id]

    def _bytes_of(self, token_id: int) -> bytes:
        text = self._vocabulary.tokens[token_id]
        byte = self._vocabulary.byte_of(token_id)
        if byte is not None:
            return bytes([byte])
        if self._model.byte_level and self._vocabulary.type_of(token_id) != TokenType.USER_DEFINED:
            try:
                return bytes([CHAR_TO_BYTE[char] for char in text])
            except KeyError:  # not written in the byte alphabet
                return raw_bytes(text)
        return raw_bytes(text.replace(self._model.space, " ") if self._model.space else text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without the space that the file's own decoder drops at the begin; `stream()`
        keeps it, because a reply goes on with a text that stands before it."""
        text = super().decode(ids)
        return text.removeprefix(" ") if self._model.strip_space else text
