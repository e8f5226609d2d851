"""A mixture of experts: a router chooses a few of many feed-forwards for each token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Experts
from llama_core.backends.numpy.experts import FeedForwardWeights
from llama_core.backends.numpy.ops import linear

F32 = NDArray[np.float32]


def mix_experts(
    spec: Experts,
    router: tuple[F32, F32 | None],
    experts: Sequence[FeedForwardWeights],
    feed_forward: Callable[[F32, FeedForwardWeights], F32],
    h: F32,
) -> F32:
    """The outputs of the experts that each token chose, summed by its shares: (n, dim), a new array.

    router: its matrix, (n experts, dim), and its bias; feed_forward: what an expert makes of (some, dim), so
    that each is taken once for all tokens that chose it; h: (n, dim).
    """
    chosen, shares = route(spec, *router, h)
    y = np.zeros_like(h)
    for e in np.unique(chosen).tolist():
        at, places = np.nonzero(chosen == e)  # tokens that chose it, and as which of theirs
        y[at] += feed_forward(h[at], experts[e]) * shares[at, places][:, None]
    return y


def route(spec: Experts, router: F32, bias: F32 | None, h: F32) -> tuple[NDArray[np.intp], F32]:
    """The experts of each token, and their shares: (n, n_used) both. Otherwise as `mix_experts`."""
    scores = linear(h, router, np.empty((len(h), spec.n), dtype=np.float32), bias)
    chosen = np.argsort(-scores, axis=-1, kind="stable")[:, : spec.n_used]
    best = np.take_along_axis(scores, chosen, axis=-1)
    # Divided by its sum, a softmax over all is the softmax over the chosen.
    over = best if spec.weights == "normalised" else scores
    top = over.max(axis=-1, keepdims=True)
    return chosen, np.exp(best - top) / np.exp(over - top).sum(axis=-1, keepdims=True)
