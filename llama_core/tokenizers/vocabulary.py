"""A vocabulary: the tokens, what each is for, and which of them end a reply."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from llama_core.tokenizers.endings import end_ids, is_marker

_log = logging.getLogger(__name__)

# How a token is written that stands for one byte.
BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenType(IntEnum):
    """The numbers of `tokenizer.ggml.token_type`, which sentencepiece defined first."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def fit_to_rows(
    tokens: Sequence[str], types: NDArray[np.int32], n_rows: int | None
) -> tuple[Sequence[str], NDArray[np.int32]]:
    """Tokens and types for a model that knows the ids 0 to n_rows - 1; None leaves them as they are.

    Rows without a token are common (embeddings are padded to round sizes) and become unused tokens: such an
    id can be drawn, and stands for no text. Tokens without a row are left out: the model cannot read them.
    """
    spare = 0 if n_rows is None else n_rows - len(tokens)
    if spare > 0:
        return [*tokens, *[""] * spare], np.append(types, np.full(spare, TokenType.UNUSED, np.int32))
    if spare < 0:
        first = ascii(tokens[n_rows] if n_rows is not None else "")
        _log.warning(
            "%d of the tokenizer's tokens, from %s on, have no row in the model: they are text", -spare, first
        )
        return tokens[:n_rows], types[:n_rows]
    return tokens, types


class Vocabulary:
    """Tokens by id with their types. Tables that only encoding needs are built on first use.

    tokens: n texts as the file writes them, "" for an id that stands for none. types: (n,) integers of
    `TokenType`, or None where the file has none (every token is then NORMAL). bos_id, eos_id: in range or
    None. ends: further ids that end a reply. first_wins: of tokens with the same text the first is used, else
    the last.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        types: NDArray[np.int32] | None,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        ends: Iterable[int] = (),
        add_bos: bool = False,
        first_wins: bool = False,
    ) -> None:
        self.tokens = tokens
        self.types = types
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.add_bos = add_bos
        self._ends = frozenset(ends)
        self._first_wins = first_wins

    def __len__(self) -> int:
        return len(self.tokens)

    def ids_of_type(self, *kinds: TokenType) -> list[int]:
        """Ids of these types, ascending."""
        if self.types is None:
            return list(range(len(self.tokens))) if TokenType.NORMAL in kinds else []
        found: list[int] = np.flatnonzero(np.isin(self.types, kinds)).tolist()
        return found

    def type_of(self, token_id: int) -> int:
        """The type of one token, as in `TokenType`."""
        return TokenType.NORMAL if self.types is None else int(self.types[token_id])

    def byte_of(self, token_id: int) -> int | None:
        """The byte that a token of type BYTE is named after; None for any other token."""
        is_byte = self.type_of(token_id) == TokenType.BYTE
        match = BYTE_NAME.fullmatch(self.tokens[token_id]) if is_byte else None
        return None if match is None else int(match[1], 16)

    @cached_property
    def byte_ids(self) -> dict[int, int]:
        """Ids of the tokens that stand for one byte, by the byte; of several the last."""
        found = {self.byte_of(token_id): token_id for token_id in self.ids_of_type(TokenType.BYTE)}
        return {byte: token_id for byte, token_id in found.items() if byte is not None}

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Texts and ids of the tokens that only template text may produce.

        These are the control and unknown tokens, and the user-defined ones that are markers by their text
        (`endings.py`): converters disagree on their type, and a message must not be able to forge a turn.
        """
        found = {self.tokens[i]: i for i in self.ids_of_type(TokenType.CONTROL, TokenType.UNKNOWN)}
        found |= {text: i for text, i in self._user_defined if is_marker(text)}
        found.pop("", None)
        return found

    @cached_property
    def plain_added(self) -> dict[str, int]:
        """Texts and ids of user-defined tokens that every text produces (runs of spaces, digits, tags)."""
        return {text: i for text, i in self._user_defined if text and not is_marker(text)}

    @cached_property
    def silent_ids(self) -> frozenset[int]:
        """Ids that stand for no text, as llama.cpp has it: markers, and ids that nothing is meant by."""
        named = self.ids_of_type(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED)
        return frozenset(named) | frozenset(self.special_tokens.values())

    @cached_property
    def text_to_id(self) -> dict[str, int]:
        """Ids of the tokens that ordinary text may become."""
        return self._table(TokenType.UNKNOWN, TokenType.CONTROL, TokenType.UNUSED, TokenType.BYTE)

    @cached_property
    def mergeable(self) -> dict[str, int]:
        """Ids of the tokens that merging may pass through: also those that are never given out."""
        return self._table(TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE)

    def _table(self, *barred: TokenType) -> dict[str, int]:
        ids = range(len(self.tokens))
        # Streams, not lists: 100,000 pairs at a time would be the garbage collector's to look through.
        order = reversed if self._first_wins else iter
        pairs = zip(order(self.tokens), order(ids), strict=True)
        if self.types is None:
            return dict(pairs)
        return dict(compress(pairs, order((~np.isin(self.types, barred)).tolist())))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a reply: those the file names, and special tokens with a well-known end name."""
        given = {self.eos_id} if self.eos_id is not None else set()
        return self._ends | end_ids(self.special_tokens) | given

    @property
    def _user_defined(self) -> list[tuple[str, int]]:
        return [(self.tokens[i], i) for i in self.ids_of_type(TokenType.USER_DEFINED)]
