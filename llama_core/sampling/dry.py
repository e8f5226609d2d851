"""DRY ("don't repeat yourself"): the longer a repeat of earlier text, the less likely it goes on.

A token that once followed the very words the text ends with now loses of its logit

    multiplier * base ** (n - allowed_length)        (n: how many tokens agree)

Sequence breakers (line feeds, colons, quotes) end what counts as one repeat, so that lists and dialogues keep
their form. Source: p-e-w's description of the method (text-generation-webui, pull request 5677), and
llama.cpp, whose names and defaults these are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.base import Tokenizer

# For an id that may begin a breaker: what must follow it; nothing where it holds the breaker whole.
Breakers = Mapping[int, tuple[tuple[int, ...], ...]]
NO_BREAKERS: Breakers = MappingProxyType({})
# e to this is the largest float32: no penalty grows beyond.
LARGEST_EXPONENT = math.log(float(np.finfo(np.float32).max))


def find_breakers(texts: Sequence[str], tokenizer: Tokenizer) -> Breakers:
    """The ids that break sequences: tokens that hold one of `texts`, or end with its beginning."""
    found: dict[int, set[tuple[int, ...]]] = {}
    sought = [text.encode() for text in texts]
    for token_id in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(token_id)
        for breaker in sought:
            for rest in _rests(data, breaker):
                tail = tokenizer.encode(rest.decode("utf-8", "replace")) if rest else []
                found.setdefault(token_id, set()).add(tuple(tail))
    return {token_id: tuple(tails) for token_id, tails in found.items()}


def _rests(data: bytes, breaker: bytes) -> Iterator[bytes]:
    """What is missing of `breaker` behind a token of these bytes; empty where it is all there."""
    if breaker in data:
        yield b""
        return
    for n in range(1, min(len(data), len(breaker) - 1) + 1):
        if data.endswith(breaker[:n]):
            yield breaker[n:]


def dry_penalties(
    ids: Sequence[int], params: SamplingParams, breakers: Breakers
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(ids, what their logits lose), both (n,), for the token that comes after `ids`, prompt and reply."""
    last_n, allowed = params.dry_penalty_last_n, params.dry_allowed_length
    seen = np.asarray(ids if last_n < 0 else ids[len(ids) - min(last_n, len(ids)) :], dtype=np.intp)
    nothing = np.empty(0, dtype=np.intp), np.empty(0, dtype=np.float64)
    # Beyond this length the penalty is the largest, so that nobody need know how long the repeat is.
    most = math.inf if params.dry_base <= 1.000001 else LARGEST_EXPONENT / math.log(params.dry_base)
    longest = _unbroken(seen.tolist(), breakers, int(min(len(seen), allowed + most + 1)))
    if len(seen) <= allowed or longest < allowed:
        return nothing
    # Places whose token would be said again: everything before them ends as the text ends, for n tokens.
    places = np.arange(1, len(seen))
    lengths = np.zeros(len(seen), dtype=np.intp)
    for n in range(1, longest + 1):
        places = places[places >= n]
        places = places[seen[places - n] == seen[-n]]
        if not len(places):
            break
        lengths[places] = n
    repeated = np.flatnonzero(lengths >= allowed)
    if not len(repeated):
        return nothing
    said, at = np.unique(seen[repeated], return_inverse=True)
    agreeing = np.zeros(len(said), dtype=np.intp)
    np.maximum.at(agreeing, at, lengths[repeated])
    exponents = np.minimum(agreeing - allowed, most)
    return said, params.dry_multiplier * params.dry_base ** exponents.astype(np.float64)


def _unbroken(ids: Sequence[int], breakers: Breakers, most: int) -> int:
    """How many of the last ids stand behind the last breaker, at most `most`: what one repeat can count."""
    for i in range(most):
        tails = breakers.get(ids[-1 - i])
        if tails is None:
            continue
        following = tuple(ids[len(ids) - i :])
        fitting = [len(tail) for tail in tails if following[: len(tail)] == tail]
        if fitting:
            return i - max(fitting)
    return most
