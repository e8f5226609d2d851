"""From turns to a prompt that fits: the questions that the session puts to the engine's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat_app.engines.bridge import Generate
    from llama_core.engine.text import TextEngine
    from llama_core.sampling import SamplingParams

Turns = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt's ids and the engine's plan for the context (see `TextEngine.plan`)."""

    turns: Turns
    ids: list[int]
    plan: Any

    @property
    def fits(self) -> bool:
        return bool(self.plan.fits)

    @property
    def can_drop(self) -> bool:
        """Whether leaving out the oldest turns would make it fit."""
        return bool(self.plan.drop)

    def remaining(self) -> Turns:
        """The turns without those that the plan would drop."""
        return [turn for index, turn in enumerate(self.turns) if index not in self.plan.drop]


def with_user_turn(turns: Turns, text: str) -> Turns:
    """`turns` and a question; joined to the turn before where that is the user's too."""
    if turns and turns[-1]["role"] == "user":
        return [*turns[:-1], {"role": "user", "content": f"{turns[-1]['content']}\n\n{text}"}]
    return [*turns, {"role": "user", "content": text}]


def prepare(
    engine: TextEngine, turns: Turns, params: SamplingParams, *, continue_last: bool = False
) -> Prepared:
    """Runs on the engine's thread, before anything is sent."""
    ids = engine.encode_chat(turns, continue_last=continue_last)
    return Prepared(turns, ids, engine.plan(turns, params))


def generate(ids: Sequence[int], params: SamplingParams, top_n: int = 0) -> Generate:
    """A request that goes on from `ids`."""
    return lambda engine, cancelled: engine.generate(ids, params, cancelled=cancelled, top_n=top_n)
