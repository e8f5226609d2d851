"""From logits to a token: temperature, top-k, top-p, min-p, penalties, and a seeded generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.ops import log_sum_exp
from llama_core.errors import NumericalError
from llama_core.sampling_params import SamplingParams as SamplingParams

F32 = NDArray[np.float32]
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


def seeded(seed: int) -> np.random.Generator:
    """The generator of a seed; a negative one is taken as the unsigned number of the same 64 bits."""
    return np.random.default_rng(seed % (1 << 64))


class Sampler:
    """Draws tokens for one reply. Holds the parameters and a buffer, no state: the generator is an argument.

    The order is: repetition penalty, presence and frequency penalty, top-k, top-p, min-p (these two on the
    probabilities of what is left, at temperature 1), then the temperature, then one number from the
    generator.
    """

    def __init__(self, params: SamplingParams, vocab_size: int) -> None:
        self.params = params
        self._scratch: F32 = np.empty(vocab_size, dtype=np.float32)
        self._looks_back = params.repeat_penalty != 1.0 and params.repeat_last_n != 0
        self._counts = params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        self._penalised: F32 = np.empty(
            vocab_size if self._looks_back or self._counts else 0, dtype=np.float32
        )

    def draw(
        self, logits: F32, ids: Sequence[int], rng: np.random.Generator, *, prompt_n: int = 0
    ) -> Sampled:
        """One token. logits: (vocab_size,) float32, unchanged; ids: the context so far, for the penalties,
        of which the first `prompt_n` are the prompt.

        Raises NumericalError when a logit is NaN or infinite.
        """
        log_z = self.log_normaliser(logits)
        chosen = self._choose(self._penalise(logits, ids, prompt_n), rng)
        return Sampled(chosen, float(logits[chosen]) - log_z)

    def log_normaliser(self, logits: F32) -> float:
        """log(sum(exp(logits))), having checked that every logit is finite."""
        log_z = log_sum_exp(logits, self._scratch)
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

    def _penalise(self, logits: F32, ids: Sequence[int], prompt_n: int) -> F32:
        """The logits, or a copy in which what was said is less likely: ids of the window (CTRL,
        arXiv:1909.05858), and ids of the reply, by how often they occur (OpenAI's API reference)."""
        params = self.params
        looks_back, counts = self._looks_back and len(ids) > 0, self._counts and len(ids) > prompt_n
        if not (looks_back or counts):
            return logits
        np.copyto(self._penalised, logits)
        if looks_back:
            window = ids if params.repeat_last_n < 0 else ids[-params.repeat_last_n :]
            seen = np.unique(np.asarray(window, dtype=np.intp))
            values = self._penalised[seen].astype(np.float64)
            penalty = params.repeat_penalty
            self._change(seen, np.where(values > 0, values / penalty, values * penalty))
        if counts:
            seen, times = np.unique(np.asarray(ids[prompt_n:], dtype=np.intp), return_counts=True)
            lowered = params.presence_penalty + params.frequency_penalty * times
            self._change(seen, self._penalised[seen] - lowered)
        return self._penalised

    def _change(self, ids: Ids, values: NDArray[np.float64]) -> None:
        # Beyond float32 the largest stands for it.
        self._penalised[ids] = np.clip(values, -_LARGEST, _LARGEST)

    def _choose(self, logits: F32, rng: np.random.Generator) -> int:
        params = self.params
        if params.temperature == 0.0:
            return int(logits.argmax())
        ids = self._candidates(logits)
        values = logits[ids].astype(np.float64)
        values -= values.max()
        if params.min_p > 0.0:
            kept = values >= math.log(params.min_p)
            ids, values = ids[kept], values[kept]
        with np.errstate(over="ignore"):  # a tiny temperature: -inf, and e to it is 0
            values /= params.temperature
        cumulative = np.cumsum(np.exp(values))
        place = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])

    def _candidates(self, logits: F32) -> Ids:
        """What top-k and top-p leave; min-p comes after. Likeliest first when either is on."""
        params = self.params
        top_k = params.top_k or len(logits)
        if params.top_p >= 1.0:
            return top_ids(logits, top_k) if top_k < len(logits) else np.arange(len(logits))
        if top_k < len(logits):
            ids = top_ids(logits, top_k)
            probabilities = np.exp(logits[ids].astype(np.float64) - float(logits[ids[0]]))
            cumulative = np.cumsum(probabilities) / probabilities.sum()
            return ids[: int(np.searchsorted(cumulative, params.top_p)) + 1]
        # Without top-k, look at more and more of the likeliest until they hold the mass.
        log_z = log_sum_exp(logits, self._scratch)
        n = 128
        while True:
            ids = top_ids(logits, n)
            cumulative = np.cumsum(np.exp(logits[ids].astype(np.float64) - log_z))
            if cumulative[-1] >= params.top_p or len(ids) == len(logits):
                return ids[: int(np.searchsorted(cumulative, params.top_p)) + 1]
            n *= 8
