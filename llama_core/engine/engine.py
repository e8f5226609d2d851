"""Ids in, events out: one model, one context, one reply at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import MemoryReport, Model
from llama_core.constraints.masks import MaskThread
from llama_core.engine.ahead import ReadAhead
from llama_core.engine.context import Context, Fill, Held
from llama_core.engine.drafting.base import Drafter
from llama_core.engine.memory import memory_report
from llama_core.engine.reply.decoding import Reply
from llama_core.engine.rules import NO_RULES, TokenRules
from llama_core.engine.scoring import Answer, ScoredAnswer, score_answers
from llama_core.errors import ContextFullError, NumericalError
from llama_core.events import Finished, PrefillProgress, TokenEvent
from llama_core.memory import available_bytes
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampler

# The context when nobody says: a long chat, and memory that any machine has.
DEFAULT_CTX_SIZE = 4096


class Engine:
    """Generates replies and keeps the context between them.

    ctx_size: positions of the context, None for the smaller of DEFAULT_CTX_SIZE and what the model was
    trained for, which is also the most there can be. Raises NotEnoughMemoryError. An engine belongs to one
    thread at a time; `cancelled` may answer for another.
    """

    def __init__(self, model: Model, ctx_size: int | None = None, drafter: Drafter | None = None) -> None:
        wanted = DEFAULT_CTX_SIZE if ctx_size is None else ctx_size
        if wanted < 1:
            raise ValueError(f"ctx_size is {wanted}, expected 1 or more")
        self.model = model
        self.drafter = drafter
        self._context = Context(model, min(wanted, model.config.max_seq_len))
        self._sampler = Sampler(SamplingParams(), model.config.vocab_size)
        self._masks = MaskThread()
        self._running: Reply | ReadAhead | None = None

    @property
    def ctx_size(self) -> int:
        """Positions of the context, for the prompt and the reply together."""
        return self._context.cache.capacity

    @property
    def cached_ids(self) -> tuple[int, ...]:
        """The ids that the context has read."""
        return tuple(self._context.ids)

    def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: frozenset[int] = frozenset(),
        cancelled: Callable[[], bool] | None = None,
        stop_when: Callable[[], bool] | None = None,
        top_n: int = 0,
        rules: TokenRules = NO_RULES,
        dictated: Callable[[], Sequence[int]] | None = None,
    ) -> Iterator[PrefillProgress | TokenEvent | Finished]:
        """One reply, as a stream of events that ends with Finished; nothing is computed before it is read.

        stop_ids end the reply (unless `params.ignore_eos`). `cancelled` is asked between layers and tokens;
        `stop_when` after each token, for a caller who finds the end in the text. top_n: alternatives in each
        TokenEvent. `dictated` is asked before each draw: ids that it gives come next, whatever the model
        says. rules: what holds for the drawing beside `params`; a constraint stands at the reply's beginning
        and is this reply's from now on. The longest common prefix with what the context holds is not computed
        again.

        Closing the iterator ends the reply, and so does a new reply or `reset`. Raises ContextFullError
        here, before any work, when prompt and one token do not fit; NumericalError and GrammarError while
        iterating. The engine can be used at once after any exception.
        """
        self._begin(prompt_ids, room=1)
        self._running = reply = Reply(
            self._context,
            prompt_ids,
            params,
            stop_ids=stop_ids,
            cancelled=cancelled,
            stop_when=stop_when,
            drafter=self.drafter,
            top_n=top_n,
            rules=rules,
            masks=self._masks,
            dictated=dictated,
        )
        return reply.run()

    def read_ahead(
        self, ids: Sequence[int], *, stop_ids: frozenset[int] = frozenset(), cancelled: Callable[[], bool]
    ) -> Iterator[PrefillProgress]:
        """Read the beginning of a prompt that is still to come, pass by pass; that prompt then reuses it.

        `cancelled` is asked between layers: what was read until then stays. stop_ids: as in `generate`. What
        else is asked of the engine ends it. Raises ContextFullError where no reply would have room behind it.
        """
        self._begin(ids, room=1)
        self._running = ahead = ReadAhead(self._context, ids, stop_ids, cancelled)
        return ahead.run()

    def prompt_logits(
        self, prompt_ids: Sequence[int], cancelled: Callable[[], bool] | None = None
    ) -> NDArray[np.float32]:
        """The logits after the prompt, (vocab_size,) float32, the caller's own. Raises NumericalError,
        Cancelled."""
        self._begin(prompt_ids, room=0)
        context = self._context
        row = np.empty(0, dtype=np.float32)
        try:
            context.reuse(prompt_ids)
            for start, stop in context.missing(prompt_ids, ()):
                last = stop == len(prompt_ids)
                row = context.extend(prompt_ids[start:stop], "last" if last else "none", cancelled)
            self._sampler.log_normaliser(row)
            context.mark_finite(len(prompt_ids))
        except NumericalError:
            context.recover(doubtful=True)
            raise
        finally:
            context.recover()
        return row.copy()

    def read(self, ids: Sequence[int], cancelled: Callable[[], bool] | None = None) -> None:
        """See that the context holds `ids` and can go back to their end. Raises NumericalError, Cancelled."""
        self.prompt_logits(ids, cancelled)
        self._context.remember()

    def score(
        self,
        prompt_ids: Sequence[int],
        answers: Sequence[Answer],
        *,
        ends: frozenset[int] = frozenset(),
        cancelled: Callable[[], bool] | None = None,
    ) -> list[ScoredAnswer]:
        """How likely each of `answers` is after the prompt, in their order; see `score_answers`. Raises as it
        and `prompt_logits` do."""
        row = self.prompt_logits(prompt_ids)
        room = available_bytes() // 4
        return score_answers(
            self.model, self._context.cache, row, answers, ends=ends, room_bytes=room, cancelled=cancelled
        )

    def perplexity(self, ids: Sequence[int], cancelled: Callable[[], bool] | None = None) -> float:
        """Mean negative log-likelihood, in nat, of ids[1:] in one context. Empties the context.

        Raises ContextFullError, ValueError for fewer than two ids, NumericalError, Cancelled.
        """
        if len(ids) < 2:
            raise ValueError(f"a perplexity needs two tokens or more, not {len(ids)}")
        self.reset()
        self._begin(ids[:-1], room=0)
        # Few rows at once: logits of the whole vocabulary are large.
        chunk = min(64, self.model.prefill_chunk)
        total = 0.0
        try:
            for first in range(0, len(ids) - 1, chunk):
                stop = min(first + chunk, len(ids) - 1)
                rows = self._context.extend(ids[first:stop], "all", cancelled)
                for row, following in zip(rows, ids[first + 1 : stop + 1], strict=True):
                    total += self._sampler.log_normaliser(row) - float(row[following])
        finally:
            self.reset()
        return total / (len(ids) - 1)

    def common(self, ids: Sequence[int]) -> int:
        """How many of the first ids the context has read."""
        self._settle()
        return self._context.common(ids)

    def hold(self) -> Held | None:
        """What is worth keeping of the context, for another thread to copy; None where that is nothing."""
        self._settle()
        return self._context.hold()

    @property
    def steps_back(self) -> bool:
        """Whether the context goes back to any length, without a snapshot."""
        return self._context.steps_back

    def reachable(self, length: int) -> int:
        """The greatest length up to `length`, which is held, that can be gone back to."""
        return self._context.cache.reachable(length)

    def restore(self, ids: Sequence[int], start: int, fill: Fill) -> int:
        """Take the keys and values of `ids` from `start` on (which is held and `reachable`) from elsewhere:
        see `Context.restore`. Raises what `fill` raises."""
        self._settle()
        return self._context.restore(ids, start, fill)

    def reset(self) -> None:
        """Forget everything: the next prompt is computed from its first token."""
        self._settle()
        self._context.keep(0)
        if self.drafter is not None:
            self.drafter.reset()

    def close(self) -> None:
        """Stop the helper thread. May be called twice."""
        self._masks.close()

    def memory(self) -> MemoryReport:
        """Where the bytes are, now."""
        return memory_report(self.model, self._context.cache, self.drafter)

    def _begin(self, prompt_ids: Sequence[int], room: int) -> None:
        """End an unfinished reply and check that the prompt can be computed."""
        self._settle()
        if len(prompt_ids) == 0:
            raise ValueError("the prompt is empty: there is nothing to continue")
        if len(prompt_ids) + room > self.ctx_size:
            raise ContextFullError(len(prompt_ids) + room, self.ctx_size)
        vocab_size = self.model.config.vocab_size
        if min(prompt_ids) < 0 or max(prompt_ids) >= vocab_size:
            raise ValueError(f"a prompt's ids must be 0 to {vocab_size - 1}")

    def _settle(self) -> None:
        if self._running is not None:
            self._running.settle()
            self._running = None
