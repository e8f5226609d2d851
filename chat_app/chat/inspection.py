"""What the model thought at one token: computed again on the engine's thread when someone asks.

Nothing is recorded while a reply is written. The cache usually holds the prefix still, so that a look costs
one step of the model; it leaves the cache cut off at that place, and the next prompt fills it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat_app.engines.base import TokenAccess
    from llama_core.events import TokenEvent
    from llama_core.sampling.params import SamplingParams

TOP_N = 10
MASK = "mask"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could stand here. probability: under the model's own distribution, temperature 1. id: a
    negative one where the engine tells none, another for each token of a look. cut: what kept it from being
    drawn, such as "top_p 0.95", or MASK; empty where it could be."""

    id: int
    text: str
    raw: bytes
    probability: float
    cut: str = ""

    @property
    def barred(self) -> bool:
        """Whether what the reply was held to does not allow it."""
        return self.cut == MASK


@dataclass(frozen=True, slots=True)
class TokenLook:
    """The token that stands at `index`, and what could have. rank counts from 1, 0 where it is below all of
    `top`; entropy in bit, NaN where only `top` is known. allowed_n: how many tokens are allowed by what the
    reply was held to, None where it was free; allowed: their share of the probability."""

    index: int
    chosen: Alternative
    rank: int
    entropy: float
    top: tuple[Alternative, ...]
    allowed_n: int | None = None
    allowed: float = 1.0


def told_looks(tokens: Iterable[TokenEvent]) -> tuple[TokenLook, ...]:
    """A look at each token of a reply, from what an engine elsewhere told with it; none at all where one was
    told without its text."""
    looks: list[TokenLook] = []
    for index, event in enumerate(tokens):
        if event.spelled is None:
            return ()
        text, raw = event.spelled.text, event.spelled.raw
        top = tuple(
            Alternative(-place, other, data, math.exp(logprob))
            for place, (other, data, logprob) in enumerate(event.spelled.top, 1)
        )
        rank = next((place for place, one in enumerate(top, 1) if (one.text, one.raw) == (text, raw)), 0)
        chosen = Alternative(-rank or -len(top) - 1, text, raw, math.exp(event.logprob))
        looks.append(TokenLook(index, chosen, rank, math.nan, top or (chosen,)))
    return tuple(looks)


def look(
    tokens: TokenAccess,
    prompt_ids: Sequence[int],
    ids: Sequence[int],
    index: int,
    params: SamplingParams | None = None,
) -> TokenLook:
    """The distribution from which `ids[index]` came, after `prompt_ids` and the ids before it. params: what
    the reply was drawn with, where that is known.

    Raises what the engine raises (ContextFullError, NumericalError, GrammarError).
    """
    import numpy as np

    before = ids[:index]
    told = tokens.logits([*prompt_ids, *before])
    logits = told.astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    seen = probabilities[probabilities > 0]
    order = np.argsort(-probabilities, kind="stable")[:TOP_N]
    token = ids[index]
    grammar = None if params is None else params.grammar
    mask = None if grammar is None else tokens.allowed(grammar, prompt_ids, before)
    shown = [token, *map(int, order)]
    cut = (
        ("",) * len(shown) if params is None else tokens.cut_by(params, told, prompt_ids, before, shown, mask)
    )
    chosen, *top = (
        Alternative(
            one.id,
            one.text,
            one.raw,
            float(probabilities[one.id]),
            f"{name} {getattr(params, name):g}" if name not in ("", MASK) else name,
        )
        for one, name in zip(tokens.describe(shown), cut, strict=True)
    )
    return TokenLook(
        index,
        chosen,
        int((probabilities > probabilities[token]).sum()) + 1,
        float(-(seen * np.log2(seen)).sum()),
        tuple(top),
        None if mask is None else int(mask.sum()),
        1.0 if mask is None else float(probabilities[mask].sum()),
    )
