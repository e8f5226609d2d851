"""The beginning of a prompt, read before the prompt is there: what comes later reuses it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from llama_core.engine.clock import EngineClock
from llama_core.engine.context import Context
from llama_core.errors import Cancelled
from llama_core.events import PrefillProgress


class ReadAhead:
    """Reads `ids` into the context, pass by pass. `run` is a generator that may be closed at any event.

    ends: ids that end a message (see `Context.missing`). `cancelled` is asked between layers; what was read
    before it answers True stays.
    """

    def __init__(
        self, context: Context, ids: Sequence[int], ends: Collection[int], cancelled: Callable[[], bool]
    ) -> None:
        self._context = context
        self._ids = list(ids)
        self._ends = ends
        self._cancelled = cancelled
        self._open = True

    def run(self) -> Iterator[PrefillProgress]:
        """One event before the first pass and one after each; none where all is held already, which is then
        left as it is, with whatever stands behind it."""
        context, ids = self._context, self._ids
        held_n = context.common(ids)
        if held_n == len(ids):
            return
        context.keep(held_n)
        cached_n = len(context.ids)
        total_n, clock = len(ids) - cached_n, EngineClock()
        try:
            clock.pause()
            yield PrefillProgress(cached_n, 0, total_n, 0.0)
            for start, stop in context.missing(ids, self._ends):
                if not self._open:
                    return
                clock.resume()
                context.extend(ids[start:stop], "none", self._cancelled)
                clock.pause()
                yield PrefillProgress(cached_n, stop - cached_n, total_n, clock.elapsed_s())
        except Cancelled:
            pass
        finally:
            self.settle()

    def settle(self) -> None:
        """Leave the context consistent. From then on this touches it no more."""
        if self._open:
            self._open = False
            self._context.recover()
            self._context.remember()
