"""Keys and values of prompts that were computed before, so that none is computed twice.

Requests often begin alike: a system prompt, an earlier turn of the same chat. When a request leaves the batch
its keys and values stay here, within a bound of bytes; those that were used longest ago go first. A request
that joins looks for the longest prefix that any of them, or any running request, holds, and copies it.
Copying a position costs a thousandth of computing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from llama_core.backends.base import Cache
from llama_core.engine.context import common_prefix


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrefix:
    """`ids` are the tokens whose keys and values `cache` holds, in order."""

    ids: Sequence[int]
    cache: Cache


def longest_prefix(ids: Sequence[int], known: Iterable[KnownPrefix]) -> tuple[KnownPrefix | None, int]:
    """The one of which most can be taken for `ids`, and how many tokens. (None, 0) where there is none.

    At least one token of `ids` is left to be computed, since its logits are wanted.
    """
    best: KnownPrefix | None = None
    best_n = 0
    for prefix in known:
        n = prefix.cache.reachable(min(common_prefix(ids, prefix.ids), len(ids) - 1))
        if n > best_n:
            best, best_n = prefix, n
    return best, best_n


class PrefixCache:
    """What left the batch, most recently used last. `nbytes` is what all caches take together."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._kept: list[KnownPrefix] = []

    def __iter__(self) -> Iterator[KnownPrefix]:
        return iter(tuple(self._kept))

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, prefix: KnownPrefix) -> None:
        """Remember `prefix`; those that it holds whole are forgotten."""
        for other in tuple(self._kept):
            if common_prefix(other.ids, prefix.ids) == len(other.ids):
                self.forget(other)
        self._kept.append(prefix)
        self.nbytes += prefix.cache.nbytes

    def used(self, prefix: KnownPrefix) -> None:
        """`prefix` was of use just now."""
        if prefix in self._kept:
            self._kept.remove(prefix)
            self._kept.append(prefix)

    def shrink_to(self, n_bytes: int) -> None:
        """Forget the oldest until all take at most `n_bytes`."""
        while self._kept and self.nbytes > n_bytes:
            self.forget(self._kept[0])

    def forget(self, prefix: KnownPrefix) -> None:
        """Let the cache of `prefix` go."""
        self._kept.remove(prefix)
        self.nbytes -= prefix.cache.nbytes
