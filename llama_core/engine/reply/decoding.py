"""One reply: prefill the prompt, then draw tokens until something ends it.

    prompt ids ──► [ reuse the common prefix | chunk | chunk | chunk ] ──► logits
                                                                             │
          ┌──────────────────────────────────────────────────────────────────┘
          ▼
        draw a token ──► ends the reply? ──► hand out a TokenEvent ──► compute it ──► logits ─┐
          ▲                                                                                   │
          └───────────────────────────────────────────────────────────────────────────────────┘

With a drafter, "compute it" takes the token and some guesses in one pass. Each row of logits then draws its
token as ever; as long as that is the guess, the next row is already there, and what was computed for wrong
guesses is forgotten.

Under a grammar, the masks after the token and after each guess are computed beside the pass
(`constraints/masks.py`), so that each row draws under its own, as it would without guesses.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llama_core.constraints.base import Mask
from llama_core.constraints.masks import MaskThread
from llama_core.engine.clock import EngineClock
from llama_core.engine.context import Context
from llama_core.engine.drafting.base import Drafter, Poll
from llama_core.engine.reply.dictation import Dictate, Dictation
from llama_core.engine.rules import NO_RULES, TokenRules
from llama_core.errors import Cancelled, NumericalError
from llama_core.events import Finished, FinishReason, PrefillProgress, Timings, TokenEvent
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampled, Sampler, seeded

F32 = NDArray[np.float32]
Masks = Callable[[], Iterable[Mask | None]]
Streamed = TypeVar("Streamed", PrefillProgress, TokenEvent)


class Reply:
    """The state of one reply. `run` is a generator that may be closed at any event."""

    def __init__(
        self,
        context: Context,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: frozenset[int] = frozenset(),
        cancelled: Poll | None = None,
        stop_when: Poll | None = None,
        drafter: Drafter | None = None,
        top_n: int = 0,
        rules: TokenRules = NO_RULES,
        masks: MaskThread | None = None,
        dictated: Dictate | None = None,
    ) -> None:
        self._context = context
        self._dictation = Dictation(dictated)
        self._params = params
        self._message_ends = stop_ids
        self._stop_ids = frozenset() if params.ignore_eos else stop_ids
        self._cancelled = cancelled
        self._stop_when = stop_when
        # Wrong guesses are gone back from at each pass, which a state cannot do.
        self._drafter = drafter if context.steps_back else None
        self._top_n = top_n
        self._sampler = Sampler(params, context.model.config.vocab_size, rules.breakers)
        self._constraint = rules.constraint
        self._masks = masks or MaskThread()
        self._seed = params.seed if params.seed is not None else secrets.randbits(32)
        self._rng = seeded(self._seed)
        self._clock = EngineClock()
        self._prompt_len = len(prompt_ids)
        self._history = list(prompt_ids)  # prompt and reply
        self._open = True
        self._cache_n = self._prompt_n = 0
        self._prompt_s = self._first_s = self._last_s = 0.0
        self._draft_n = self._draft_accepted_n = 0

    def run(self) -> Iterator[PrefillProgress | TokenEvent | Finished]:
        """All events. However it ends, ids and cache agree afterwards and hold nothing doubtful."""
        doubtful = False
        reason: FinishReason
        self._clock = EngineClock()
        try:
            try:
                masks = self._masks_along(())
                row = yield from self._prefill()
                reason = yield from self._decode(row, masks)
            except Cancelled:
                reason = "cancelled"
            self._clock.pause()
        except NumericalError:
            doubtful = True
            raise
        finally:
            self.settle(doubtful=doubtful)
        yield Finished(reason, self._timings(), self._seed, tuple(self._history[self._prompt_len :]))

    def settle(self, *, doubtful: bool = False) -> None:
        """Leave the context consistent. From then on this reply touches it no more: if its generator is
        asked for another event, that is Finished("cancelled")."""
        if self._open:
            self._open = False
            # Guesses that were computed but not drawn are not part of the context.
            self._context.keep(min(len(self._context.ids), len(self._history)))
            self._context.recover(doubtful=doubtful)
            self._context.remember()

    def _hand_out(self, event: Streamed) -> Generator[Streamed, None, None]:
        """Yield one event with the clock stopped."""
        self._clock.pause()
        yield event
        self._clock.resume()
        if not self._open:
            raise Cancelled

    def _prefill(self) -> Generator[PrefillProgress, None, F32]:
        """Compute the prompt in chunks; returns the logits after it, (vocab_size,)."""
        context, prompt = self._context, self._history[: self._prompt_len]
        self._cache_n = context.reuse(prompt)
        total = len(prompt) - self._cache_n
        yield from self._hand_out(PrefillProgress(self._cache_n, 0, total, 0.0))
        row: F32 = np.empty(0, dtype=np.float32)
        for start, stop in context.missing(prompt, self._message_ends):
            last = stop == len(prompt)
            row = context.extend(prompt[start:stop], "last" if last else "none", self._cancelled)
            self._prompt_n = stop - self._cache_n
            self._prompt_s = self._last_s = self._clock.elapsed_s()
            yield from self._hand_out(PrefillProgress(self._cache_n, self._prompt_n, total, self._prompt_s))
        return row

    def _decode(self, row: F32, masks: Masks) -> Generator[TokenEvent, None, FinishReason]:
        """Draw tokens from the logits after the prompt on; returns the reason why it ended."""
        context, history, drafter = self._context, self._history, self._drafter
        if reason := self._ended():
            return reason
        if drafter is not None:
            drafter.start(history)
        rows: Sequence[F32] | F32 = [row]
        draft: list[int] = []
        pass_began_s = self._clock.elapsed_s()
        while True:
            accepted, allowed = 0, iter(masks())
            for guess, row in zip([*draft, None], rows, strict=True):
                mask, dictated = next(allowed), self._dictation.next(row, self._sampler)
                sampled = dictated or self._sampler.draw(
                    row, history, self._rng, prompt_n=self._prompt_len, allowed=mask
                )
                context.mark_finite(len(history))
                if dictated is None and sampled.id in self._stop_ids:
                    return "stop"
                if self._constraint is not None:
                    self._constraint.take(sampled.id)
                history.append(sampled.id)
                accepted += sampled.id == guess
                self._draft_accepted_n += sampled.id == guess
                yield from self._hand_out(self._token_event(sampled, row, drafted=sampled.id == guess))
                if reason := self._ended():
                    return reason
                if sampled.id != guess:
                    break
            if drafter is not None and len(history) > self._prompt_len + 1:  # there was a pass
                drafter.observe(len(draft), accepted, self._clock.elapsed_s() - pass_began_s)
            context.keep(len(history) - 1)
            draft = []
            if drafter is not None:
                draft = list(drafter.propose(history, self._draft_limit(), self._cancelled))
            self._draft_n += len(draft)
            masks = self._masks_along(draft)
            pass_began_s = self._clock.elapsed_s()
            new = context.extend([history[-1], *draft], "all" if draft else "last", self._cancelled)
            rows = new if draft else [new]

    def _masks_along(self, draft: Sequence[int]) -> Masks:
        """Begin to compute the masks of the rows after the reply so far and each guess; None for all tokens.
        What is returned waits for them."""
        if self._constraint is None or self._constraint.complete:
            return lambda: itertools.repeat(None)
        return self._masks.begin(self._constraint, draft).result

    def _ended(self) -> FinishReason | None:
        """Whether the reply ends before another token is drawn, and why."""
        if self._constraint is not None and self._constraint.complete:
            return "stop"
        if self._stop_when is not None and self._stop_when():
            return "stop"
        if self._cancelled is not None and self._cancelled():
            return "cancelled"
        max_tokens = self._params.max_tokens
        if max_tokens is not None and len(self._history) - self._prompt_len >= max_tokens:
            return "length"
        return "context" if len(self._history) >= self._context.cache.capacity else None

    def _draft_limit(self) -> int:
        """Guesses that the pass, the context and the reply have room for, beside the token drawn."""
        context, max_tokens = self._context, self._params.max_tokens
        room = context.cache.capacity - len(self._history)
        if max_tokens is not None:
            room = min(room, max_tokens - (len(self._history) - self._prompt_len) - 1)
        return max(0, min(room, context.model.prefill_chunk - 1))

    def _token_event(self, sampled: Sampled, row: F32, *, drafted: bool) -> TokenEvent:
        """The record of the token just drawn; takes its time."""
        now_s = self._clock.elapsed_s()
        index = len(self._history) - self._prompt_len - 1
        step_s, self._last_s = now_s - self._last_s, now_s
        if index == 0:
            self._first_s = now_s
        top = self._sampler.top(row, self._top_n) if self._top_n else ()
        return TokenEvent(index, sampled.id, sampled.logprob, step_s, len(self._history), drafted, top)

    def _timings(self) -> Timings:
        predicted_n = len(self._history) - self._prompt_len
        return Timings(
            cache_n=self._cache_n,
            prompt_n=self._prompt_n,
            prompt_s=self._prompt_s,
            predicted_n=predicted_n,
            predicted_s=self._last_s - self._first_s if predicted_n else 0.0,
            ttft_s=self._first_s,
            draft_n=self._draft_n,
            draft_accepted_n=self._draft_accepted_n,
        )
