"""Byte pair encoding: the one merging loop of all kinds, and the pieces that were merged before."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Protocol

# Words repeat (Zipf): with the pieces of a few books at hand, encoding is one look-up a word.
MOST_PIECES = 1 << 16
LONGEST_PIECE = 64


class PieceIds(dict[str, list[int]]):
    """Ids of pieces that were met before. `longest`: no piece of more characters is kept; 0 keeps none."""

    def __init__(self, longest: int = LONGEST_PIECE) -> None:
        super().__init__()
        self.longest = longest

    def keep(self, piece: str, ids: list[int]) -> list[int]:
        """Remember a piece unless it is long, and forget all others where there are too many; returns its
        ids."""
        if len(piece) <= self.longest:
            if len(self) >= MOST_PIECES:
                self.clear()
            self[piece] = ids
        return ids


class Ranks(Protocol):
    """A table of ranks; a dict is one."""

    def get(self, key: str, default: int, /) -> int:
        """The rank of a merged token; `default` where no merge makes it."""


def merge_symbols(symbols: list[str], ranks: Ranks, separator: str) -> list[str]:
    """Join neighbours, the lowest rank first and of equal ranks the leftmost, until no pair has a rank.

    symbols: the pieces to begin with, no empty one among them; consumed. ranks: rank (>= 0) by
    `left + separator + right`. A heap of candidates over a linked list of symbols: n symbols take
    O(n log n), so a word of 100,000 characters costs a fraction of a second, not an hour.
    Source: Sennrich et al. 2016 (arXiv:1508.07909).
    """
    n = len(symbols)
    if n < 2:
        return symbols
    following = list(range(1, n + 1))
    previous = list(range(-1, n - 1))
    # The rank of the pair that starts at i, -1 for none: tells whether a heap entry still holds.
    pair_rank = [-1] * n
    for i in range(n - 1):
        pair_rank[i] = ranks.get(f"{symbols[i]}{separator}{symbols[i + 1]}", -1)
    # One integer per candidate compares faster than a tuple: rank first, then position.
    heap = [rank * n + i for i, rank in enumerate(pair_rank) if rank >= 0]
    heapify(heap)
    while heap:
        rank, left = divmod(heappop(heap), n)
        if pair_rank[left] != rank:
            continue
        right = following[left]
        symbols[left] += symbols[right]
        symbols[right] = ""
        pair_rank[right] = -1
        after = following[left] = following[right]
        pair_rank[left] = -1
        if after < n:
            previous[after] = left
            rank = pair_rank[left] = ranks.get(f"{symbols[left]}{separator}{symbols[after]}", -1)
            if rank >= 0:
                heappush(heap, rank * n + left)
        before = previous[left]
        if before >= 0:
            rank = pair_rank[before] = ranks.get(f"{symbols[before]}{separator}{symbols[left]}", -1)
            if rank >= 0:
                heappush(heap, rank * n + before)
    return [symbol for symbol in symbols if symbol]
