"""The cache together with the ids that it has read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Logits, Model
from llama_core.engine.passes import message_ends, passes

# A cache with a state remembers it at least every so many tokens.
SNAPSHOT_EVERY = 512


def without_warnings() -> np.errstate:
    """No RuntimeWarning on the way: NaN and infinity are looked for in the logits, and told in a sentence."""
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")


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

    @property
    def steps_back(self) -> bool:
        """Whether any length can be gone back to, without a snapshot."""
        return self.cache.snapshot_bytes == 0

    def reuse(self, prompt_ids: Sequence[int]) -> int:
        """Keep the longest common prefix with the prompt, or as much of it as the cache can go back to, but
        leave one token to compute: its logits are wanted. Returns the number of positions kept."""
        limit = min(len(self.ids), len(prompt_ids) - 1)
        common = 0
        while common < limit and self.ids[common] == prompt_ids[common]:
            common += 1
        self.keep(common)
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

    def keep(self, length: int) -> None:
        """Forget everything from `length` on, or from what the cache can go back to on."""
        self.cache.truncate(min(length, self.cache.length))
        del self.ids[self.cache.length :]
        self._checked = min(self._checked, len(self.ids))
        self._remembered = min(self._remembered, len(self.ids))

    def recover(self, *, doubtful: bool = False) -> None:
        """After any exception: make ids and cache agree again; `doubtful`: keep only what was checked."""
        sound = min(len(self.ids), self.cache.length)
        self.keep(min(sound, self._checked) if doubtful else sound)
