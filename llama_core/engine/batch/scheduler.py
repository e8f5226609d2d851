"""Continuous batching: many requests share each step of one model.

Decoding one sequence reads every weight to make one token. Decoding sixteen reads them once for sixteen,
so a batch costs little more than one until arithmetic, not memory, is the limit. Requests need not start
or end together: between any two steps finished ones leave and waiting ones join (iteration-level
scheduling, Orca, OSDI 2022), and a long prompt is fed in pieces beside the others' decoding so that it
holds nobody up (chunked prefill, arXiv:2308.16369).

A step's plan, within `token_budget` tokens:

    decoding sequences, one token each  |  prompts in order of arrival, each as much as still fits

All of them go through the model as one forward; attention alone looks at each sequence by itself.

Memory: a request reserves KV for its prompt and the longest reply it may give when it joins, and the sum
of reservations never exceeds `kv_budget_bytes`. The others wait, first come first served. What no request
reserves holds the prefixes of those that left (`prefixes.py`).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import BatchModel, Cache, Model
from llama_core.constraints.masks import MaskThread
from llama_core.engine.batch.prefixes import KnownPrefix, PrefixCache, longest_prefix
from llama_core.engine.batch.request import BatchRequest, BatchResult, DrawnToken, RunningRequest
from llama_core.engine.clock import RunningTime
from llama_core.engine.context import without_warnings
from llama_core.engine.engine import DEFAULT_CTX_SIZE
from llama_core.engine.passes import message_ends
from llama_core.engine.reply.dictation import Dictation
from llama_core.engine.scoring import score_answers
from llama_core.errors import Cancelled, ContextFullError, LlamaCoreError, NotEnoughMemoryError
from llama_core.sampling.sampler import Sampler, seeded

# Reservations are multiples of this: what caches round up to.
_RESERVE_STEP = 64
# More sequences than this make each step longer without making tokens cheaper.
MAX_SEQUENCES = 64
# Snapshots of a cache with a state: behind the first message of the prompt, which others may share, and
# behind the last, from which another reply may be asked for.
_SNAPSHOTS = 2
# The fewest tokens of a prompt in a pass, however slow the model is: the prompt must come to its end.
LEAST_PROMPT_TOKENS = 8


class BatchEngine:
    """Runs many requests over one model. Belongs to one thread.

    kv_budget_bytes: what all caches together may take. ctx_size: the most positions of one request. Each
    request draws the tokens that `Engine` draws for it alone with the same seed, up to rounding where the
    model's products depend on the number of rows (the NumPy one's do, in the last digits).

    max_step_s: how long a prompt may hold up those that are decoding; None for no bound. Its share of a pass
    follows from the time that earlier passes took for a token.

    lent: what others computed and keep as it is meanwhile. It is copied from as prefixes are, and no budget
    counts it.
    """

    def __init__(
        self,
        model: Model,
        *,
        kv_budget_bytes: int,
        ctx_size: int | None = None,
        max_sequences: int = MAX_SEQUENCES,
        token_budget: int | None = None,
        max_step_s: float | None = None,
        clock: Callable[[], float] | None = None,
        lent: Sequence[KnownPrefix] = (),
    ) -> None:
        self.model = model
        self._lent = tuple(lent)
        self.kv_budget_bytes = kv_budget_bytes
        self.ctx_size = min(ctx_size or DEFAULT_CTX_SIZE, model.config.max_seq_len)
        self.token_budget = min(token_budget or model.prefill_chunk, model.prefill_chunk)
        self.max_sequences = min(max_sequences, self.token_budget)
        if self.token_budget < 1 or self.max_sequences < 1:
            raise ValueError("a step takes at least one token of one sequence")
        # A cache takes so much for each position, and so much however few there are.
        small, large = (model.new_cache(n * _RESERVE_STEP) for n in (1, 2))
        self._position_bytes = -(-(large.nbytes - small.nbytes) // _RESERVE_STEP)
        self._snapshot_bytes = _SNAPSHOTS * small.snapshot_bytes
        self._fixed_bytes = self._snapshot_bytes + max(0, small.nbytes - _RESERVE_STEP * self._position_bytes)
        self._waiting: deque[BatchRequest] = deque()
        self._running: list[RunningRequest] = []
        self._max_step_s = max_step_s
        self._clock = RunningTime() if clock is None else clock
        self._token_s = 0.0  # of a prompt's token in the last pass that had many
        self._masks = MaskThread()
        self.prefixes = PrefixCache()
        self.kv_bytes = 0
        self.tokens_computed = 0
        self.tokens_reused = 0
        self.tokens_drawn = 0

    @property
    def waiting_n(self) -> int:
        """Requests that have not joined yet."""
        return len(self._waiting)

    @property
    def running_n(self) -> int:
        """Requests that share the next step."""
        return len(self._running)

    def close(self) -> None:
        """Stop the helper thread. May be called twice."""
        self._masks.close()

    def submit(self, request: BatchRequest) -> None:
        """Queue a request. Whatever is wrong with it becomes its result, never an exception."""
        self._waiting.append(request)

    def cancel(self, key: str) -> BatchResult | None:
        """End the request `key` now, waiting or running; None where there is none."""
        for request in self._waiting:
            if request.key == key:
                self._waiting.remove(request)
                return BatchResult(key, "cancelled", (), len(request.prompt_ids), 0)
        for sequence in self._running:
            if sequence.request.key == key:
                self._leave(sequence)
                self._keep_prefix(sequence)
                return sequence.result("cancelled")
        return None

    def run(
        self,
        requests: Iterable[BatchRequest],
        cancelled: Callable[[], bool] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> Iterator[BatchResult]:
        """Results in the order in which they are done. `requests` is read as far as there is room, so that
        it may be endless. Ends early when `cancelled`; what was unfinished has no result then. `on_step` is
        called after each pass."""
        source = iter(requests)
        more = True
        while True:
            while more and self.waiting_n + self.running_n < 2 * self.max_sequences:
                request = next(source, None)
                more = request is not None
                if request is not None:
                    self.submit(request)
            if not (self._waiting or self._running):
                return
            try:
                done = self.step(cancelled)
            except Cancelled:
                return
            if on_step is not None:
                on_step()
            yield from done

    def step(self, cancelled: Callable[[], bool] | None = None) -> list[BatchResult]:
        """Let waiting requests join, compute one pass, draw; returns what finished. Raises Cancelled, after
        which every sequence is as before the step."""
        done = self._admit()
        rows = self._plan()
        if not rows:
            return done
        n_tokens = sum(n for _, n in rows)
        for sequence, n in rows:
            constraint = sequence.request.rules.constraint
            if constraint is not None and not constraint.complete and n == len(sequence.pending):
                sequence.masks = self._masks.begin(constraint)
        began_s = self._clock()
        with without_warnings():
            logits = self._forward(
                [(sequence.pending[:n], sequence.cache) for sequence, n in rows], cancelled
            )
        if n_tokens >= 2 * LEAST_PROMPT_TOKENS:
            self._token_s = (self._clock() - began_s) / n_tokens
        self.tokens_computed += n_tokens
        to_score: list[tuple[RunningRequest, NDArray[np.float32]]] = []
        for (sequence, n), row in zip(rows, logits, strict=True):
            sequence.pending = sequence.pending[n:]
            if sequence.cache.length in sequence.remember_at:
                sequence.cache.snapshot()
            if len(sequence.pending):
                continue
            if sequence.request.answers:
                to_score.append((sequence, row.copy()))  # another pass is to come
            elif (result := self._draw(sequence, row)) is not None:
                done.append(self._end(sequence, result))
        done += [self._end(sequence, self._score(sequence, row)) for sequence, row in to_score]
        return done

    def _end(self, sequence: RunningRequest, result: BatchResult) -> BatchResult:
        """A sequence leaves with its result; what it computed stays as a prefix."""
        self._leave(sequence)
        if result.reason != "failed":  # NaN in a cache would spoil whoever copies it
            self._keep_prefix(sequence)
        return result

    def _score(self, sequence: RunningRequest, row: NDArray[np.float32]) -> BatchResult:
        """Score a request's answers, within the memory that is not reserved. row: (vocab_size,)."""
        request = sequence.request
        room = max(0, self.kv_budget_bytes - self.kv_bytes)
        self.prefixes.shrink_to(room // 2)
        try:
            scores = score_answers(
                self.model,
                sequence.cache,
                row,
                request.answers,
                ends=request.stop_ids,
                room_bytes=room - self.prefixes.nbytes,
            )
        except LlamaCoreError as error:
            return sequence.result("failed", error)
        best = max(scores, key=lambda one: one.logprob)
        return replace(sequence.result("stop"), ids=best.ids, scores=tuple(scores))

    def _admit(self) -> list[BatchResult]:
        """Requests join in order of arrival as long as there is room; returns those that never can."""
        refused = []
        while self._waiting and len(self._running) < self.max_sequences:
            request = self._waiting[0]
            try:
                positions = self._reservation(request)
                room = self.kv_budget_bytes - self.kv_bytes - self._bytes_for(positions)
                if room < 0:
                    break
                prefix, n = self._known_prefix(request)
                self.prefixes.shrink_to(room)
                cache = self._new_cache(positions)
                if cache is None:
                    break
                if prefix is not None:
                    cache.copy_prefix(prefix.cache, n)
                self._join(request, cache)
            except LlamaCoreError as error:
                prompt_n = len(request.prompt_ids)
                refused.append(BatchResult(request.key, "failed", (), prompt_n, 0, error))
            self._waiting.popleft()
        return refused

    def _reservation(self, request: BatchRequest) -> int:
        """Positions that a request may come to fill. Raises LlamaCoreError where it can never run."""
        ids, vocab_size = request.prompt_ids, self.model.config.vocab_size
        if not ids:
            raise LlamaCoreError("the prompt is empty: there is nothing to continue")
        if min(ids) < 0 or max(ids) >= vocab_size:
            raise LlamaCoreError(f"a prompt's ids must be 0 to {vocab_size - 1}")
        if len(ids) + 1 > self.ctx_size:
            raise ContextFullError(len(ids) + 1, self.ctx_size)
        reply_n = request.params.max_tokens
        longest = self.ctx_size if reply_n is None else min(self.ctx_size, len(ids) + max(1, reply_n))
        positions = -(-longest // _RESERVE_STEP) * _RESERVE_STEP
        needed = self._bytes_for(positions)
        if needed > self.kv_budget_bytes:
            advice = "give a smaller max_tokens or a larger KV budget"
            raise NotEnoughMemoryError("The KV cache of this request", needed, self.kv_budget_bytes, advice)
        return positions

    def _bytes_for(self, positions: int) -> int:
        """What a cache of so many positions may come to take."""
        return self._fixed_bytes + positions * self._position_bytes

    def _new_cache(self, positions: int) -> Cache | None:
        """A cache; None when the machine has no room for it now but others will give some back."""
        try:
            return self.model.new_cache(positions)
        except NotEnoughMemoryError:
            if self._running:
                return None
            raise

    def _join(self, request: BatchRequest, cache: Cache) -> None:
        seed = request.params.seed if request.params.seed is not None else secrets.randbits(32)
        kv_bytes = cache.nbytes + self._snapshot_bytes
        self._running.append(
            RunningRequest(
                request=request,
                cache=cache,
                sampler=Sampler(request.params, self.model.config.vocab_size, request.rules.breakers),
                rng=seeded(seed),
                dictation=Dictation(request.dictated),
                seed=seed,
                pending=np.asarray(request.prompt_ids[cache.length :], dtype=np.int32),
                kv_bytes=kv_bytes,
                remember_at=self._remember_at(request, cache),
                cached_n=cache.length,
                history=list(request.prompt_ids),
            )
        )
        self.kv_bytes += kv_bytes
        self.tokens_reused += cache.length

    @staticmethod
    def _remember_at(request: BatchRequest, cache: Cache) -> list[int]:
        """Lengths of the prompt behind which the cache is to remember its state, where it has one."""
        if not cache.snapshot_bytes:
            return []
        ends = message_ends(request.prompt_ids, cache.length, request.stop_ids)
        return sorted({*ends[:1], *ends[-1:]})

    def _known_prefix(self, request: BatchRequest) -> tuple[KnownPrefix | None, int]:
        """What others computed of this prompt, and how many tokens of it."""
        running = [KnownPrefix(s.history[: s.cache.length], s.cache) for s in self._running]
        prefix, n = longest_prefix(list(request.prompt_ids), (*self._lent, *self.prefixes, *running))
        if prefix is not None:
            self.prefixes.used(prefix)
        return prefix, n

    def _leave(self, sequence: RunningRequest) -> None:
        self._running.remove(sequence)
        self.kv_bytes -= sequence.kv_bytes

    def _keep_prefix(self, sequence: RunningRequest) -> None:
        """What a sequence that has left computed stays as a prefix, as far as there is room for it."""
        ids = sequence.history[: sequence.cache.length]
        room = self.kv_budget_bytes - self.kv_bytes
        needed = self._bytes_for(-(-len(ids) // _RESERVE_STEP) * _RESERVE_STEP)
        if not ids or needed > room:
            return
        self.prefixes.shrink_to(room - needed)
        cache = self._new_cache(len(ids))  # a tight one: the old one has room for the longest reply
        if cache is not None:
            cache.copy_prefix(sequence.cache, len(ids))
            self.prefixes.keep(KnownPrefix(ids, cache))

    def _plan(self) -> list[tuple[RunningRequest, int]]:
        """Who takes part in the next pass, with how many tokens: decoding first, then prompts by arrival."""
        rows = [(sequence, 1) for sequence in self._running if sequence.decoding]
        left = self.token_budget - len(rows)
        if rows and self._max_step_s is not None and self._token_s > 0:
            left = min(left, max(LEAST_PROMPT_TOKENS, int(self._max_step_s / self._token_s) - len(rows)))
        for sequence in self._running:
            if left > 0 and not sequence.decoding:
                n = min(left, sequence.next_cut())
                rows.append((sequence, n))
                left -= n
        return rows

    def _forward(
        self, rows: list[tuple[NDArray[np.int32], Cache]], cancelled: Callable[[], bool] | None
    ) -> NDArray[np.float32]:
        """Logits (n_rows, vocab_size): in one pass where the model can, else one sequence after another."""
        model = self.model
        if isinstance(model, BatchModel):
            return model.forward_batch(rows, cancelled=cancelled)
        lengths = [cache.length for _, cache in rows]
        try:
            return np.stack([model.forward(ids, cache, cancelled=cancelled).copy() for ids, cache in rows])
        except BaseException:  # Ctrl+C too: no cache may be ahead of the others
            for (_, cache), length in zip(rows, lengths, strict=True):
                cache.truncate(length)
            raise

    def _draw(self, sequence: RunningRequest, logits: NDArray[np.float32]) -> BatchResult | None:
        """Draw the next token, or end the reply: the questions of `reply/decoding.py`, in its order."""
        request, history = sequence.request, sequence.history
        params, constraint = request.params, request.rules.constraint
        if constraint is not None and constraint.complete:  # the grammar of nothing at all
            return sequence.result("stop")
        if params.max_tokens == 0:
            return sequence.result("length")
        try:
            masks, sequence.masks = sequence.masks, None
            allowed = None if masks is None else masks.result()[0]
            dictated = sequence.dictation.next(logits, sequence.sampler)
            drawn = dictated or sequence.sampler.draw(
                logits, history, sequence.rng, prompt_n=sequence.prompt_n, allowed=allowed
            )
            top = sequence.sampler.top(logits, request.top_n)
        except LlamaCoreError as error:
            return sequence.result("failed", error)
        token = drawn.id
        if dictated is None and token in request.stop_ids and not params.ignore_eos:
            return sequence.result("stop")
        if constraint is not None:
            constraint.take(token)
        history.append(token)
        self.tokens_drawn += 1
        if request.on_token is not None and request.on_token(DrawnToken(token, drawn.logprob, top)):
            return sequence.result("stop")
        if constraint is not None and constraint.complete:
            return sequence.result("stop")
        if params.max_tokens is not None and len(history) - sequence.prompt_n >= params.max_tokens:
            return sequence.result("length")
        if len(history) >= self.ctx_size:
            return sequence.result("context")
        sequence.pending = np.array([token], dtype=np.int32)
        return None
