"""From logits to a token: bias, penalties, a mask, filters, temperature, and a seeded generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.errors import NumericalError
from llama_core.sampling.dry import NO_BREAKERS, Breakers, dry_penalties
from llama_core.sampling.params import SamplingParams

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ids = NDArray[np.intp]
_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token; `logprob` is natural, under the model's own distribution."""

    id: int
    logprob: float


def top_ids(logits: F32, n: int) -> Ids:
    """The ids of the n largest logits, largest first; of equal ones the lower id first.

    logits: (vocab_size,). A full sort of 49,152 logits takes 450 us. Here the maxima of groups give a bound
    first: n of them are at least as large as the n-th largest maximum, so that the n largest logits are too.
    What reaches the bound is little more than n, and only that is sorted.
    """
    size = len(logits)
    n = min(n, size)
    groups = 512
    if 2 * n <= groups and size >= 8 * groups:
        maxima = np.maximum.reduce(logits[: size // groups * groups].reshape(-1, groups), axis=0)
        bound = np.partition(maxima, groups - n)[groups - n]
    else:
        bound = np.partition(logits, size - n)[size - n]
    found = np.flatnonzero(logits >= bound)
    order = np.lexsort((found, -logits[found]))
    chosen: Ids = found[order[:n]]
    return chosen


def log_sum_exp(logits: F32, scratch: F32) -> float:
    """log(sum(exp(logits))) of one row without overflow; NaN or infinity when the row holds one.

    logits, scratch: (vocab_size,).
    """
    peak = float(logits.max())
    if not math.isfinite(peak):
        return peak
    with np.errstate(over="ignore"):  # further below the peak than float32 reaches: -inf, and e to it is 0
        np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return peak + math.log(float(scratch.sum()))


def seeded(seed: int) -> np.random.Generator:
    """The generator of a seed; a negative one is taken as the unsigned number of the same 64 bits."""
    return np.random.default_rng(seed % (1 << 64))


class Sampler:
    """Draws tokens for one reply. Holds the parameters and a buffer, no state: the generator is an argument.

    The order is: logit bias, repetition penalty, presence and frequency penalty, DRY, the mask, top-k,
    typical-p, top-p, min-p (these on the probabilities of what is left, at temperature 1), then the
    temperature, then one number from the generator. breakers: what ends DRY's sequences.
    """

    def __init__(self, params: SamplingParams, vocab_size: int, breakers: Breakers = NO_BREAKERS) -> None:
        self.params = params
        self._breakers = breakers
        self._scratch: F32 = np.empty(vocab_size, dtype=np.float32)
        self._looks_back = params.repeat_penalty != 1.0 and params.repeat_last_n != 0
        self._counts = params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        bias = [(token_id, value) for token_id, value in params.logit_bias if token_id < vocab_size]
        self._biased: Ids = np.array([token_id for token_id, _ in bias], dtype=np.intp)
        self._bias: F64 = np.array([value for _, value in bias], dtype=np.float64)
        changes = bias or self._looks_back or self._counts or params.dry_multiplier
        self._changed: F32 = np.empty(vocab_size if changes else 0, dtype=np.float32)

    def draw(
        self,
        logits: F32,
        ids: Sequence[int],
        rng: np.random.Generator,
        *,
        prompt_n: int = 0,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Sampled:
        """One token. logits: (vocab_size,) float32, unchanged; ids: the context so far, for the penalties,
        of which the first `prompt_n` are the prompt. allowed: (vocab_size,), the only tokens that may be
        drawn, one at least; None for all.

        Raises NumericalError when a logit is NaN or infinite.
        """
        log_z = self.log_normaliser(logits)
        changed = self._change(logits, ids, prompt_n)
        if allowed is None:
            chosen = self._choose(changed, rng)
        else:
            left = np.flatnonzero(allowed)
            chosen = int(left[self._choose(changed[left], rng)])
        return Sampled(chosen, float(logits[chosen]) - log_z)

    def log_normaliser(self, logits: F32) -> float:
        """log(sum(exp(logits))), having checked that every logit is finite."""
        log_z = log_sum_exp(logits, self._scratch[: len(logits)])
        # NaN and +inf show in the sum, -inf only in the minimum.
        if not (math.isfinite(log_z) and math.isfinite(float(logits.min()))):
            raise NumericalError("the model's logits contain NaN or infinity; the weights may be damaged")
        return log_z

    def top(self, logits: F32, n: int) -> tuple[tuple[int, float], ...]:
        """The n likeliest ids with their log-probabilities, likeliest first."""
        if n <= 0:
            return ()
        log_z = self.log_normaliser(logits)
        return tuple((int(i), float(logits[i]) - log_z) for i in top_ids(logits, n))

    def _change(self, logits: F32, ids: Sequence[int], prompt_n: int) -> F32:
        """The logits, or a copy with the bias, in which what was said is less likely: ids of the window
        (CTRL, arXiv:1909.05858), ids of the reply, by how often they occur (OpenAI's API reference), and what
        would go on with a repeat (`dry.py`)."""
        params = self.params
        if not len(self._changed):
            return logits
        np.copyto(self._changed, logits)
        if len(self._biased):
            self._put(self._biased, self._changed[self._biased] + self._bias)
        if self._looks_back and len(ids) > 0:
            window = ids if params.repeat_last_n < 0 else ids[-params.repeat_last_n :]
            seen = np.unique(np.asarray(window, dtype=np.intp))
            values = self._changed[seen].astype(np.float64)
            penalty = params.repeat_penalty
            self._put(seen, np.where(values > 0, values / penalty, values * penalty))
        if self._counts and len(ids) > prompt_n:
            seen, times = np.unique(np.asarray(ids[prompt_n:], dtype=np.intp), return_counts=True)
            lowered = params.presence_penalty + params.frequency_penalty * times
            self._put(seen, self._changed[seen] - lowered)
        if params.dry_multiplier:
            seen, lost = dry_penalties(ids, params, self._breakers)
            self._put(seen, self._changed[seen] - lost)
        return self._changed

    def _put(self, ids: Ids, values: F64) -> None:
        # Beyond float32 the largest stands for it.
        self._changed[ids] = np.clip(values, -_LARGEST, _LARGEST)

    def cut_by(
        self,
        logits: F32,
        ids: Sequence[int],
        among: Sequence[int],
        *,
        prompt_n: int = 0,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[str, ...]:
        """What keeps each token of `among` from being drawn (see `draw`): the parameter whose filter is the
        first to take it away, "mask" where `allowed` does; "" for one that can be drawn."""
        changed = self._change(logits, ids, prompt_n)
        left: Ids = np.arange(len(logits)) if allowed is None else np.flatnonzero(allowed)
        cut = {one: "mask" for one in among if allowed is not None and not allowed[one]}
        for name, kept in self._filters(changed[left]):
            standing = set(left[kept].tolist())
            for one in among:
                if one not in standing:
                    cut.setdefault(one, name)
        return tuple(cut.get(one, "") for one in among)

    def _choose(self, logits: F32, rng: np.random.Generator) -> int:
        """A place in `logits`, (n,)."""
        params = self.params
        if params.temperature == 0.0:
            return int(logits.argmax())
        *_, (_, ids) = self._filters(logits)
        values = logits[ids].astype(np.float64)
        values -= values.max()
        with np.errstate(over="ignore"):  # a tiny temperature: -inf, and e to it is 0
            values /= params.temperature
        cumulative = np.cumsum(np.exp(values))
        place = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])

    def _filters(self, logits: F32) -> Iterator[tuple[str, Ids]]:
        """The filters in their order: each one's parameter, and what is left behind it. Likeliest first where
        top-k or top-p are on; temperature 0 leaves the likeliest alone."""
        params, size = self.params, len(logits)
        top_k = params.top_k or size
        if params.temperature == 0.0:
            yield "temperature", np.array([logits.argmax()], dtype=np.intp)
            return
        if params.typical_p >= 1.0 and params.top_p < 1.0 and top_k >= size:
            ids = self._nucleus(logits)
            yield "top_p", ids
        else:
            ids = top_ids(logits, top_k) if top_k < size else np.arange(size)
            yield "top_k", ids
            if params.typical_p < 1.0:
                ids = ids[_typical(_probabilities(logits[ids]), params.typical_p)]
                if params.top_p < 1.0:
                    ids = ids[np.lexsort((ids, -logits[ids]))]
                yield "typical_p", ids
            if params.top_p < 1.0:
                cumulative = np.cumsum(_probabilities(logits[ids]))
                ids = ids[: int(np.searchsorted(cumulative, params.top_p)) + 1]
                yield "top_p", ids
        if params.min_p > 0.0:
            values = logits[ids].astype(np.float64)
            values -= values.max()
            yield "min_p", ids[values >= math.log(params.min_p)]

    def _nucleus(self, logits: F32) -> Ids:
        """Top-p of all logits: looks at more and more of the likeliest until they hold the mass."""
        log_z = log_sum_exp(logits, self._scratch[: len(logits)])
        n = 128
        while True:
            ids = top_ids(logits, n)
            cumulative = np.cumsum(np.exp(logits[ids].astype(np.float64) - log_z))
            if cumulative[-1] >= self.params.top_p or len(ids) == len(logits):
                return ids[: int(np.searchsorted(cumulative, self.params.top_p)) + 1]
            n *= 8


def _probabilities(logits: F32) -> F64:
    """The softmax of (n,) logits."""
    weights: F64 = np.exp(logits.astype(np.float64) - float(logits.max()))
    weights /= weights.sum()
    return weights


def _typical(probabilities: F64, mass: float) -> Ids:
    """The places whose surprise is nearest to the expected one, as many as hold `mass`, ascending (locally
    typical sampling, arXiv:2202.00666)."""
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities)
    possible = probabilities > 0
    entropy = float((probabilities[possible] * surprise[possible]).sum())
    order = np.argsort(np.abs(surprise - entropy), kind="stable")
    cumulative = np.cumsum(probabilities[order])
    kept: Ids = np.sort(order[: int(np.searchsorted(cumulative, mass)) + 1])
    return kept
