"""The cache together with the ids that it has read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Logits, Model
from llama_core.engine.passes import message_ends, passes

# A cache with a state remembers it at least every so many tokens.
SNAPSHOT_EVERY = 512


def without_warnings() -> np.errstate:
    """No RuntimeWarning on the way: NaN and infinity are looked for in the logits, and told in a sentence."""
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")


# Writes into a cache's pieces; returns how many positions are right now, and the states by length.
Fill = Callable[[Cache], tuple[int, Mapping[int, NDArray[np.uint8]]]]


@dataclass(eq=False)
class Held:
    """The first positions of a context, to be copied by another thread while the context goes on.

    ids: what was read there. `intact` turns false once one of these positions is given up: what was copied of
    `pieces` before it was asked, and is still intact then, is sound.
    """

    ids: tuple[int, ...]
    cache: Cache
    state: NDArray[np.uint8] | None
    intact: bool = True


def common_prefix(some: Sequence[int], others: Sequence[int]) -> int:
    """How many of the first ids are the same. By halves: slices are compared without the interpreter."""
    a, b = tuple(some), tuple(others)  # a list equals no tuple
    same, n = 0, min(len(a), len(b))
    while same < n:
        middle = (same + n + 1) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            n = middle - 1
    return same


class Context:
    """What the model has read. At rest, `ids` has exactly as many entries as the cache has positions."""

    def __init__(self, model: Model, capacity: int) -> None:
        self.model = model
        self.cache = model.new_cache(capacity)
        self.ids: list[int] = []
        # Up to here the model's answers were seen to be finite. NaN in a position's keys or values spreads to
        # every later position, so that one finite answer clears everything before it.
        self._checked = 0
        self._remembered = 0  # the length at the last snapshot
        self._held: WeakSet[Held] = WeakSet()

    @property
    def steps_back(self) -> bool:
        """Whether any length can be gone back to, without a snapshot."""
        return self.cache.snapshot_bytes == 0

    def reuse(self, prompt_ids: Sequence[int]) -> int:
        """Keep the longest common prefix with the prompt, or as much of it as the cache can go back to, but
        leave one token to compute: its logits are wanted. Returns the number of positions kept."""
        self.keep(min(self.common(prompt_ids), len(prompt_ids) - 1))
        return len(self.ids)

    def missing(self, prompt_ids: Sequence[int], ends: Collection[int]) -> Iterator[tuple[int, int]]:
        """(start, stop) of the passes over what is not held of the prompt. ends: ids that end a message.

        Who takes a pass computes it before the next is asked for: a state is remembered between them.
        """
        start, n, chunk = len(self.ids), len(prompt_ids), self.model.prefill_chunk
        cuts = [] if self.steps_back else message_ends(prompt_ids, start, ends)
        for begin, stop in passes(start, n, chunk, cuts):
            yield begin, stop
            if stop in cuts and len(self.ids) == stop:
                self.remember()

    def extend(
        self,
        ids: Sequence[int],
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Compute `ids` behind what is held; returns the logits as `Model.forward` does: (vocab_size,) for
        "last", (n, vocab_size) for "all"."""
        with without_warnings():
            rows = self.model.forward(
                np.asarray(ids, dtype=np.int32), self.cache, logits=logits, cancelled=cancelled
            )
        self.ids.extend(ids)
        if len(self.ids) - self._remembered >= SNAPSHOT_EVERY:
            self.remember()
        return rows

    def remember(self) -> None:
        """See that this length can be gone back to."""
        self.cache.snapshot()
        self._remembered = len(self.ids)

    def mark_finite(self, length: int) -> None:
        """The logits after the first `length` positions were finite."""
        self._checked = length

    def hold(self) -> Held | None:
        """As many of the positions as are known to be sound and can be gone back to; None where none is."""
        length = self.cache.reachable(min(len(self.ids), self._checked))
        state = self.cache.state(length)
        if length == 0 or (state is None and not self.steps_back):
            return None
        held = Held(tuple(self.ids[:length]), self.cache, state)
        self._held.add(held)
        return held

    def common(self, ids: Sequence[int]) -> int:
        """How many of the first ids are held."""
        return common_prefix(self.ids, ids)

    def restore(self, ids: Sequence[int], start: int, fill: Fill) -> int:
        """Let `fill` write positions `start` and later ones into the cache, and take them for those of `ids`;
        returns how many are held then. Where it raises, those before `start` are."""
        self.keep(start // self.cache.block_positions * self.cache.block_positions)
        length, states = fill(self.cache)
        if length > len(self.ids):
            self.cache.adopt(length, states)
            self.ids = list(ids[:length])
            self._checked = self._remembered = length
        return len(self.ids)

    def keep(self, length: int) -> None:
        """Forget everything from `length` on, or from what the cache can go back to on."""
        self.cache.truncate(min(length, self.cache.length))
        for held in self._held:
            held.intact = held.intact and len(held.ids) <= self.cache.length
        del self.ids[self.cache.length :]
        self._checked = min(self._checked, len(self.ids))
        self._remembered = min(self._remembered, len(self.ids))

    def recover(self, *, doubtful: bool = False) -> None:
        """After any exception: make ids and cache agree again; `doubtful`: keep only what was checked."""
        sound = min(len(self.ids), self.cache.length)
        self.keep(min(sound, self._checked) if doubtful else sound)
