"""A small model of the same vocabulary guesses what the large one will say (arXiv:2211.17192).

It reads what the large model reads, some tokens at a time, so that a long prompt stops nobody, and then
writes on greedily. A guess is worth its time while

    chance that it counts / seconds that it costs  >  tokens per second so far

Before it is made, its chance is that of guesses in general; then how often those as sure as it were right,
and checking it is all that it still costs.

Passes with guesses run in turn with plain ones, and only while they are the faster (`payoff.Trial`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Logits, Model
from llama_core.engine.context import Context, without_warnings
from llama_core.engine.drafting.base import Poll
from llama_core.engine.drafting.payoff import FRESH, Acceptance, Calibration, PassTimes, Trial
from llama_core.errors import NumericalError

MOST_GUESSES = 16
# Tokens of the prompt that are read before each pass of the large model until all are.
READ_AT_ONCE = 64
# A pass over so many tokens takes as long as one over one: both read the weights once. After a pass of the
# large model so many are new, or one.
AS_ONE = 2


class DraftModel:
    """Implements `base.Drafter` with a model, which it closes.

    capacity: positions of its own context; a longer one is not guessed in. vocab_size: of the large model,
    which can have fewer or more rows that no text needs. Its times carry over from reply to reply. Raises
    NotEnoughMemoryError.
    """

    def __init__(self, model: Model, capacity: int, vocab_size: int) -> None:
        self._model = model
        self._vocab_size = min(vocab_size, model.config.vocab_size)  # ids that both know
        self._context = Context(model, min(capacity, model.config.max_seq_len))
        self._times = PassTimes()
        self._trial = Trial()
        self._acceptance, self._calibration = Acceptance(), Calibration()
        self._probabilities: list[float] = []  # of the guesses last made, by its own logits
        self._propose_s = 0.0  # of the guesses last made
        self._draft_s: float | None = None  # of one guess
        self._silent = False  # for the rest of the reply

    @property
    def nbytes(self) -> int:
        """Its weights, keys and values, and work buffers."""
        return self._model.weights_bytes + self._context.cache.nbytes + self._model.scratch_bytes

    def start(self, ids: Sequence[int]) -> None:
        """A reply begins after the prompt `ids`; they are read later, piece by piece."""
        self._silent = False

    def propose(self, ids: Sequence[int], limit: int, cancelled: Poll | None = None) -> list[int]:
        """At most `limit` greedy guesses of what follows `ids`; none while it still reads, and none where
        they would not pay. Raises Cancelled."""
        limit = min(limit, MOST_GUESSES, self._context.cache.capacity - len(ids))
        if limit < 1 or self._silent or not self._times.known or not self._trial.take_turn():
            return []
        began_s = time.perf_counter()
        try:
            row = self._read(ids, cancelled)
            return [] if row is None else self._guess(row, limit, cancelled)
        except NumericalError:
            # A model that computes NaN guesses nothing; the reply is the large one's.
            self._context.keep(0)
            self._silent = True
            return []
        finally:
            self._context.recover()
            self._propose_s = time.perf_counter() - began_s

    def observe(self, drafted_n: int, accepted_n: int, pass_s: float) -> None:
        """The large model's pass over one token and `drafted_n` guesses took `pass_s`."""
        self._times.observe(drafted_n, pass_s)
        if drafted_n:
            self._acceptance.observe(drafted_n, accepted_n)
            self._calibration.observe(self._probabilities[:drafted_n], accepted_n)
            self._trial.observe(accepted_n + 1, self._propose_s + pass_s, self._times.plain_s)

    def reset(self) -> None:
        """Empty its context."""
        self._context.keep(0)

    def close(self) -> None:
        """Stop the model's threads."""
        self._model.close()

    def _read(self, ids: Sequence[int], cancelled: Poll | None) -> NDArray[np.float32] | None:
        """Read on towards the end of `ids`: the logits behind them, (vocab_size,), or None before that."""
        context = self._context
        start = context.reuse(ids)
        stop = min(len(ids), start + min(READ_AT_ONCE, self._model.prefill_chunk))
        if max(ids[start:stop]) >= self._vocab_size:
            self._silent = True
            return None
        done = stop == len(ids)
        row = self._extend(ids[start:stop], "last" if done else "none", cancelled)
        return row if done else None

    def _guess(self, row: NDArray[np.float32], limit: int, cancelled: Poll | None) -> list[int]:
        """Greedy guesses from the logits `row` on, as many as are worth their time."""
        guesses: list[int] = []
        self._probabilities = []
        check_s, make_s = self._times.guess_s, self._draft_s or 0.0
        chance, tokens, took_s = 1.0, 1.0, self._times.plain_s
        while True:
            best = int(row[: self._vocab_size].argmax())
            probability = probability_of(row, best)
            chance *= self._calibration.chance(probability)
            if guesses and chance * took_s <= tokens * check_s:  # made it is already
                return guesses
            guesses.append(best)
            self._probabilities.append(probability)
            tokens += chance
            took_s += check_s + make_s
            following = chance * self._acceptance.rate
            if len(guesses) == limit or following * took_s <= tokens * (check_s + make_s):
                return guesses
            row = self._extend([best], "last", cancelled)

    def _extend(self, ids: Sequence[int], logits: Logits, cancelled: Poll | None) -> NDArray[np.float32]:
        """Compute `ids`; timed where that says what a guess costs. Reading does too: a step that was slow by
        chance would end the guessing for good if guesses alone were timed."""
        began_s = time.perf_counter()
        rows = self._context.extend(ids, logits, cancelled)
        if len(ids) <= AS_ONE:
            step_s = time.perf_counter() - began_s
            known_s = step_s if self._draft_s is None else self._draft_s
            self._draft_s = known_s + FRESH * (step_s - known_s)
        return rows


def probability_of(row: NDArray[np.float32], token_id: int) -> float:
    """The probability of the likeliest token `token_id` by the logits `row`, (vocab_size,) float32.

    Raises NumericalError where they are not finite.
    """
    with without_warnings():
        total = float(np.exp(row - row[token_id]).sum())
    if not np.isfinite(total):
        raise NumericalError("the draft model computed numbers that are not finite")
    return 1.0 / total
