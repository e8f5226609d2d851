"""Making room in a full context: the model itself summarises what was said first.

The turns go to the engine as they stand, with the request for a summary behind them, so that what its cache
holds of them is not computed again. Where they are too long for that, they are summarised piece by piece,
each summary standing in for the turns before it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from chat_app.chat.conversation import add_turn, with_user_turn
from chat_app.engines.base import Engine, Prompt, PromptRequest, Turn
from llama_core.errors import ContextFullError
from llama_core.events import PrefillProgress, TextDelta
from llama_core.sampling.params import SamplingParams

HEADING = "Summary of our conversation so far:"
REQUEST = (
    "Summarise our conversation up to here, so that it can go on from your summary alone: what was asked, "
    "what was answered and decided, names, numbers and facts that may matter later. Write the summary only."
)
# Of the context: what a summary may take, so that there is room for what comes after it.
SHARE = 4
MOST_TOKENS = 512


class SummaryStoppedError(Exception):
    """Nobody wants the summary any more."""


@dataclass(slots=True)
class SummaryDraft:
    """A summary while the model writes it, for two threads: the engine's adds to it, the screen's reads it.

    of: what it stands for, in a few words. use, leave: what follows from using it, as a sentence, and from
    not using it, as a label. step: what is summarised now, where that is a part; read: what share of it the
    model has read, None while it writes. `done` is set when no more comes; `error` says then why it is not
    whole.
    """

    of: str
    use: str
    leave: str
    step: str = ""
    read: float | None = None
    parts: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    error: str = ""

    @property
    def text(self) -> str:
        """What there is of it."""
        return "".join(self.parts).strip()


def summarise(engine: Engine, turns: Sequence[Turn], params: SamplingParams, draft: SummaryDraft) -> str:
    """The model's summary of `turns`, of which the first may be the system prompt.

    Raises SummaryStoppedError, ContextFullError where not even one turn has room, and what the engine raises.
    """
    system = [turn for turn in turns if turn.role == "system"]
    rest = [turn for turn in turns if turn.role != "system"]
    limit = engine.info.ctx_size or MOST_TOKENS * SHARE
    most = max(1, min(MOST_TOKENS, limit // SHARE))
    plain = plain_params(params, most)
    before: list[Turn] = []
    while rest:
        n = _how_many(engine, [*system, *before], rest, plain)
        if n == 0:
            needed = engine.prepare(_request([*system, *before, rest[0]], plain)).prompt_n
            raise ContextFullError(needed + most, limit)
        prompt = engine.prepare(_request([*system, *before, *rest[:n]], plain))
        draft.parts.clear()
        write(engine, prompt, plain, draft)
        rest = rest[n:]
        before = [Turn("user", f"{HEADING}\n\n{draft.text}")]
    return draft.text


def plain_params(params: SamplingParams, most: int) -> SamplingParams:
    """How a summary of at most `most` tokens is drawn: what a reply is held to, its stops and its thought are
    no matter of it."""
    return SamplingParams(
        temperature=0.0,
        max_tokens=most,
        loop_rounds=params.loop_rounds,
        thinking="off",
        seed=params.seed,
    )


def write(engine: Engine, prompt: Prompt, params: SamplingParams, draft: SummaryDraft) -> str:
    """Add the engine's answer to the draft, and return it. Raises SummaryStoppedError, and what the engine
    raises."""
    begin = len(draft.parts)
    for event in engine.stream(prompt, params, cancelled=draft.cancelled.is_set):
        if isinstance(event, PrefillProgress):
            draft.read = event.done_n / event.total_n if event.done_n < event.total_n else None
        elif isinstance(event, TextDelta) and not event.thought:
            draft.parts.append(event.text)
    if draft.cancelled.is_set():
        raise SummaryStoppedError
    return "".join(draft.parts[begin:]).strip()


def _request(turns: Sequence[Turn], params: SamplingParams) -> PromptRequest:
    return PromptRequest(with_user_turn(joined(turns), REQUEST), params)


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with neighbours of the user's made one (see `add_turn`)."""
    found: list[Turn] = []
    for turn in turns:
        add_turn(found, turn)
    return found


def _how_many(engine: Engine, before: Sequence[Turn], rest: Sequence[Turn], params: SamplingParams) -> int:
    """The most of `rest` that fit behind `before`, 0 where not even one does."""
    low, high = 0, len(rest)
    while low < high:
        middle = (low + high + 1) // 2
        fits = engine.prepare(_request([*before, *rest[:middle]], params)).fits
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
