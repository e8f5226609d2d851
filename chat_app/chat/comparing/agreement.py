"""Where several texts agree: what all begin with, then how they part, with counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fork:
    """`members`, by their places, say `text` alike from here on; then they part into `forks`, the most common
    first. Without forks they end here, or have not gone on yet."""

    text: str
    members: tuple[int, ...]
    forks: tuple[Fork, ...] = ()

    def rows(self, depth: int = 0) -> Iterator[tuple[int, Fork]]:
        """This one and all below it, each with its depth, as they are read."""
        yield depth, self
        for fork in self.forks:
            yield from fork.rows(depth + 1)


def agreement(texts: Sequence[Sequence[str]]) -> Fork:
    """The tree of texts that are given in pieces. Those that are the same share a leaf."""
    return _fork(texts, tuple(range(len(texts))), 0)


def _fork(texts: Sequence[Sequence[str]], members: tuple[int, ...], begin: int) -> Fork:
    at, first = begin, texts[members[0]] if members else ()
    while at < len(first) and all(texts[one][at : at + 1] == first[at : at + 1] for one in members):
        at += 1
    ways: dict[str | None, list[int]] = {}
    for one in members:
        ways.setdefault(texts[one][at] if at < len(texts[one]) else None, []).append(one)
    forks: list[Fork] = []
    if len(ways) > 1:
        forks = [
            Fork("", tuple(group)) if piece is None else _fork(texts, tuple(group), at)
            for piece, group in ways.items()
        ]
        forks.sort(key=lambda fork: -len(fork.members))
    return Fork("".join(first[begin:at]), members, tuple(forks))
