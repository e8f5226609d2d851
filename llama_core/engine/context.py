"""The cache together with the ids whose keys and values it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Logits, Model


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

    def reuse(self, prompt_ids: Sequence[int]) -> int:
        """Keep the longest common prefix with the prompt, but leave one token to compute: its logits are
        wanted. Returns the number of positions kept."""
        limit = min(len(self.ids), len(prompt_ids) - 1)
        common = 0
        while common < limit and self.ids[common] == prompt_ids[common]:
            common += 1
        self.keep(common)
        return common

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
        return rows

    def mark_finite(self, length: int) -> None:
        """The logits after the first `length` positions were finite."""
        self._checked = length

    def keep(self, length: int) -> None:
        """Forget everything from `length` on."""
        del self.ids[length:]
        self._checked = min(self._checked, length)
        self.cache.truncate(min(length, self.cache.length))

    def recover(self, *, doubtful: bool = False) -> None:
        """After any exception: make ids and cache agree again; `doubtful`: keep only what was checked."""
        sound = min(len(self.ids), self.cache.length)
        self.keep(min(sound, self._checked) if doubtful else sound)
