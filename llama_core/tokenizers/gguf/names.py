"""A text of its own for every token: readers of GGUF find tokens by their texts, and refuse two alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.tokenizers.vocabulary import TokenType, Vocabulary


def unique_names(vocabulary: Vocabulary, n_rows: int) -> tuple[list[str], NDArray[np.int32], list[int]]:
    """(n_rows texts, their types, the ids that repeated the text of another).

    Of tokens with the same text the one that encoding gives keeps it. The others, like ids that stand for
    nothing and the embedding's spare rows, become unused tokens with names that no other has.
    """
    n = len(vocabulary)
    texts = [*vocabulary.tokens, *[""] * (n_rows - n)]
    types = np.full(n_rows, TokenType.UNUSED, np.int32)
    types[:n] = TokenType.NORMAL if vocabulary.types is None else vocabulary.types
    owners = dict(
        zip(reversed(texts), reversed(range(n_rows)), strict=True)
    )  # the first, where none is given
    owners |= vocabulary.text_to_id | vocabulary.plain_added
    owners |= {texts[i]: i for i in vocabulary.ids_of_type(TokenType.BYTE)} | vocabulary.special_tokens
    taken = set(texts)
    repeats = []
    for i, text in enumerate(texts):
        if text and owners[text] == i:
            continue
        if text:
            repeats.append(i)
        types[i] = TokenType.UNUSED
        texts[i] = _free_name(i, taken)
        taken.add(texts[i])
    return texts, types, repeats


def _free_name(token_id: int, taken: set[str]) -> str:
    """llama.cpp's name for an unused token, within more brackets where a token has it."""
    name = f"[PAD{token_id}]"
    while name in taken:
        name = f"[{name}]"
    return name
