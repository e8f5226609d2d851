"""What the model thought at one token: computed again on the engine's thread when someone asks.

Nothing is recorded while a reply is written. The cache usually holds the prefix still, so that a look costs
one step of the model; it leaves the cache cut off at that place, and the next prompt fills it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat_app.engines.base import TokenAccess

TOP_N = 10


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could stand here. probability: under the model's own distribution, temperature 1."""

    id: int
    text: str
    raw: bytes
    probability: float


@dataclass(frozen=True, slots=True)
class TokenLook:
    """The token that stands at `index`, and what could have. rank counts from 1; entropy in bit."""

    index: int
    chosen: Alternative
    rank: int
    entropy: float
    top: tuple[Alternative, ...]


def look(tokens: TokenAccess, prompt_ids: Sequence[int], ids: Sequence[int], index: int) -> TokenLook:
    """The distribution from which `ids[index]` came, after `prompt_ids` and the ids before it.

    Raises what the engine raises (ContextFullError, NumericalError).
    """
    import numpy as np

    logits = tokens.logits([*prompt_ids, *ids[:index]]).astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    seen = probabilities[probabilities > 0]
    order = np.argsort(-probabilities, kind="stable")[:TOP_N]
    token = ids[index]

    def alternatives(*ids: int) -> tuple[Alternative, ...]:
        described = tokens.describe(ids)
        return tuple(
            Alternative(one.id, one.text, one.raw, float(probabilities[one.id])) for one in described
        )

    return TokenLook(
        index,
        alternatives(token)[0],
        int((probabilities > probabilities[token]).sum()) + 1,
        float(-(seen * np.log2(seen)).sum()),
        alternatives(*map(int, order)),
    )
