"""Several replies at once, as events: what their prompts share is computed once, and each pass serves all.

The chat's own context lends its keys and values. What the prompts share is computed there where it is
missing, so that a reply drawn afterwards finds it too; each reply then copies that and goes on in a cache of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llama_core.engine.batch.prefixes import KnownPrefix
from llama_core.engine.batch.request import BatchReason, BatchRequest, BatchResult, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.clock import EngineClock
from llama_core.engine.context import common_prefix
from llama_core.engine.reply.events import ReplyEvents
from llama_core.engine.text import TextEngine
from llama_core.errors import Cancelled, LlamaCoreError
from llama_core.events import Event, Finished, FinishReason, Timings, TokenEvent
from llama_core.memory import available_bytes
from llama_core.sampling.params import SamplingParams

# What all replies' keys and values together may take of the memory that is free.
SHARE_OF_FREE = 2


@dataclass(frozen=True, slots=True)
class AskedReply:
    """A reply that is wanted; its prompt's last `begun_n` ids are its own beginning. plain: nothing is told
    apart in it."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    begun_n: int = 0
    plain: bool = False


# The place of a reply among those asked for, and an event of it, or why there will be no more.
Told = tuple[int, Event | LlamaCoreError]


class RepliesTogether:
    """Draws replies in one batch, in which `computed_n` counts the tokens that went through the model.

    kv_budget_bytes: what their caches may take together, None for half of what is free; what does not fit at
    once is drawn later. top_n: alternatives in each TokenEvent.
    """

    def __init__(self, engine: TextEngine, *, kv_budget_bytes: int | None = None, top_n: int = 0) -> None:
        self._engine = engine
        self._kv_budget_bytes = kv_budget_bytes or available_bytes() // SHARE_OF_FREE
        self._top_n = top_n
        self.computed_n = 0

    def run(self, asked: Sequence[AskedReply], cancelled: Callable[[], bool] | None = None) -> Iterator[Told]:
        """What happens, in order. Each reply ends with Finished or an error; those that are `cancelled` with
        Finished("cancelled"). Raises NumericalError where what they share cannot be computed."""
        clock = EngineClock()
        try:
            lent = self._shared([one.prompt_ids for one in asked], cancelled)
        except Cancelled:
            yield from ((place, _unbegun()) for place in range(len(asked)))
            return
        batch = BatchEngine(
            self._engine.model,
            kv_budget_bytes=self._kv_budget_bytes,
            ctx_size=self._engine.ctx_size,
            lent=lent,
        )
        try:
            for told in self._run(batch, asked, clock, cancelled):
                clock.pause()
                yield told
                clock.resume()
        finally:
            self.computed_n += batch.tokens_computed
            batch.close()

    def _shared(
        self, prompts: Sequence[Sequence[int]], cancelled: Callable[[], bool] | None
    ) -> list[KnownPrefix]:
        """The engine's context, in which stands what all prompts begin with, but for a token at their end:
        its logits are wanted. Raises Cancelled."""
        engine = self._engine.engine
        first = prompts[0]
        n = min(common_prefix(first, one) for one in prompts)
        shared = first[: min(n, *(len(one) - 1 for one in prompts))]
        held_n = engine.reachable(engine.common(shared))
        if held_n < len(shared) <= engine.ctx_size:
            engine.read(shared, cancelled)
            self.computed_n += len(shared) - held_n
        held = engine.hold()
        return [] if held is None else [KnownPrefix(held.ids, held.cache)]

    def _run(
        self,
        batch: BatchEngine,
        asked: Sequence[AskedReply],
        clock: EngineClock,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[Told]:
        drawing: dict[str, _Drawing] = {}
        for place, one in enumerate(asked):
            try:
                drawing[str(place)] = self._submit(batch, str(place), one, clock)
            except LlamaCoreError as error:  # a grammar that cannot be held
                yield place, error
        while batch.waiting_n or batch.running_n:
            try:
                done = batch.step(cancelled)
            except Cancelled:
                done = [found for key in drawing if (found := batch.cancel(key)) is not None]
            for result in done:
                drawing[result.key].end(result)
            for key, one_drawn in drawing.items():
                yield from ((int(key), event) for event in one_drawn.take())

    def _submit(self, batch: BatchEngine, key: str, asked: AskedReply, clock: EngineClock) -> _Drawing:
        engine, ids = self._engine, asked.prompt_ids
        reading = engine.reply_events(ids, asked.params, begun_n=asked.begun_n, plain=asked.plain)
        drawing = _Drawing(reading, clock, len(ids))
        batch.submit(
            BatchRequest(
                key,
                ids,
                asked.params,
                engine.tokenizer.stop_ids,
                drawing.push,
                top_n=self._top_n,
                rules=engine.rules.of(asked.params, ids, begun_n=asked.begun_n, plain=asked.plain),
                dictated=reading.dictated,
            )
        )
        return drawing


@dataclass(slots=True)
class _Drawing:
    """One reply while it is drawn; its events wait here until the pass is over."""

    reading: ReplyEvents
    clock: EngineClock
    prompt_n: int
    n: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    told: list[Event | LlamaCoreError] = field(default_factory=list)

    def push(self, token: DrawnToken) -> bool:
        """Take a token; whether the reply ends with it."""
        now_s = self.clock.elapsed_s()
        self.first_s = self.first_s if self.n else now_s
        event = TokenEvent(
            self.n,
            token.id,
            token.logprob,
            now_s - self.last_s,
            self.prompt_n + self.n + 1,
            top=token.top,
        )
        self.n, self.last_s = self.n + 1, now_s
        self.told += self.reading.of(event)
        return self.reading.stopped

    def end(self, result: BatchResult) -> None:
        """It ended so."""
        if result.error is not None:
            self.told.append(result.error)
            return
        timings = Timings(
            cache_n=result.cached_n,
            prompt_n=result.prompt_n - result.cached_n,
            prompt_s=self.first_s,
            predicted_n=self.n,
            predicted_s=self.last_s - self.first_s,
            ttft_s=self.first_s,
        )
        self.told += self.reading.of(Finished(_reason(result.reason), timings, result.seed, result.ids))

    def take(self) -> list[Event | LlamaCoreError]:
        """What was told since the last time."""
        told, self.told = self.told, []
        return told


def _reason(reason: BatchReason) -> FinishReason:
    assert reason != "failed", "a failure has its error"
    return reason


def _unbegun() -> Finished:
    return Finished("cancelled", Timings(), 0, ())
