"""Masks computed beside the model: while a pass runs, a helper thread asks the grammar what may follow it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from llama_core.constraints.base import Constraint, Mask


def masks_along(constraint: Constraint, draft: Sequence[int]) -> list[Mask]:
    """The mask after what `constraint` has taken, and after each guess of `draft` in turn; none beyond a
    guess that is not allowed, or that completes the reply. The constraint is left as it is. Raises
    GrammarError."""
    masks = [constraint.allowed()]
    if draft:
        ahead = constraint.copy()
        for token_id in draft:
            if not masks[-1][token_id]:
                break
            ahead.take(token_id)
            if ahead.complete:
                break
            masks.append(ahead.allowed())
    return masks


class MaskThread:
    """One helper thread, begun with the first mask. The grammar's own code runs without the interpreter's
    lock, so that it holds up neither the pass nor the caller."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    def begin(self, constraint: Constraint, draft: Sequence[int] = ()) -> Future[list[Mask]]:
        """Compute `masks_along`; the constraint is the thread's until the future is done."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="masks")
        return self._executor.submit(masks_along, constraint, draft)

    def close(self) -> None:
        """End the thread. May be called twice."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
