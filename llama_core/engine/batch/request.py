"""What goes into a batch, what comes out, and a request while it runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache
from llama_core.constraints.base import Mask
from llama_core.engine.reply.dictation import Dictate, Dictation
from llama_core.engine.rules import NO_RULES, TokenRules
from llama_core.engine.scoring import Answer, ScoredAnswer
from llama_core.errors import LlamaCoreError
from llama_core.events import FinishReason
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampler

BatchReason = FinishReason | Literal["failed"]


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """A token of a reply. `logprob` is natural, under the model's own distribution; `top` holds the likeliest
    (id, logprob) pairs, as many as the request asked for."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A prompt to be continued. `key` names it to the caller.

    `on_token` sees each token of the reply in turn and answers True to end it there (a stop string was
    found); the token it answers for stays part of the result's `ids`. top_n: how many alternatives it sees.
    rules: what holds for the drawing beside `params`; a constraint is this request's alone. `dictated` is
    asked before each token of the reply: ids that it gives come next instead of drawn ones. Where `answers`
    are given nothing is drawn: each is scored as the reply (`scoring.py`).
    """

    key: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    stop_ids: frozenset[int] = frozenset()
    on_token: Callable[[DrawnToken], bool] | None = None
    top_n: int = 0
    rules: TokenRules = NO_RULES
    answers: tuple[Answer, ...] = ()
    dictated: Dictate | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A finished request. Reason "failed" comes with the error; its `ids` are those drawn before it.
    `cached_n` of the prompt's `prompt_n` tokens were known from other requests. `scores` are of the request's
    answers, in their order; `ids` are then the likeliest's."""

    key: str
    reason: BatchReason
    ids: tuple[int, ...]
    prompt_n: int
    seed: int
    error: LlamaCoreError | None = None
    cached_n: int = 0
    scores: tuple[ScoredAnswer, ...] = ()


@dataclass(slots=True, eq=False)
class RunningRequest:
    """A request that has joined. `pending`: tokens that the model has not seen yet, shape (n,) int32.
    `remember_at`: lengths at which the cache is to remember its state, ascending. `kv_bytes`: what its cache
    may come to take."""

    request: BatchRequest
    cache: Cache
    sampler: Sampler
    rng: np.random.Generator
    dictation: Dictation
    seed: int
    pending: NDArray[np.int32]
    kv_bytes: int = 0
    remember_at: list[int] = field(default_factory=list)
    cached_n: int = 0
    history: list[int] = field(default_factory=list)
    masks: Future[list[Mask]] | None = None  # of the token that this pass is to give

    @property
    def prompt_n(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def decoding(self) -> bool:
        """Whether the prompt is computed and tokens are being drawn."""
        return len(self.history) > self.prompt_n

    def next_cut(self) -> int:
        """How many of the pending tokens come before the next length to remember; all where there is none."""
        n = len(self.pending)
        return min((at - self.cache.length for at in self.remember_at if at > self.cache.length), default=n)

    def result(self, reason: BatchReason, error: LlamaCoreError | None = None) -> BatchResult:
        """How it ended."""
        ids = tuple(self.history[self.prompt_n :])
        key, prompt_n = self.request.key, self.prompt_n
        return BatchResult(key, reason, ids, prompt_n, self.seed, error, self.cached_n)
