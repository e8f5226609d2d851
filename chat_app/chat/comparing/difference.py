"""Where two replies first differ, whatever their tokenizers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chat_app.chat.comparing.candidate import Said


@dataclass(frozen=True, slots=True)
class Difference:
    """Up to here both say the same; `places` are the pieces in which they part, None for one that ends there.
    The texts before these pieces, `lengths` characters each, are equal but where the pieces are cut in other
    ways: then the longer one ends with what the other's piece begins with."""

    places: tuple[int | None, int | None]
    lengths: tuple[int, int]


def first_difference(
    one: Sequence[Said], other: Sequence[Said], *, whole: tuple[bool, bool] = (True, True)
) -> Difference | None:
    """Where two replies part; None where they do not, or one that is not whole has not come so far."""
    texts = ["".join(piece.text for piece in pieces) for pieces in (one, other)]
    pairs = enumerate(zip(*texts, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
    if all(len(text) == at for text in texts):
        return None
    if any(len(text) == at and not ends for text, ends in zip(texts, whole, strict=True)):
        return None
    found = [_piece_at(pieces, at) for pieces in (one, other)]
    (first, begin), (second, end) = found
    return Difference((first, second), (begin, end))


def _piece_at(pieces: Sequence[Said], at: int) -> tuple[int | None, int]:
    """(the piece that holds the character `at`, characters before it); (None, all) behind the end."""
    before = 0
    for place, piece in enumerate(pieces):
        if before + len(piece.text) > at:
            return place, before
        before += len(piece.text)
    return None, before
