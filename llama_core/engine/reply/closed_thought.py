"""Ending a thought from outside: its budget is spent, or the user wants the answer."""

from __future__ import annotations

from collections.abc import Callable

from llama_core.engine.reply.text import ReplyText
from llama_core.events import ThoughtClosed
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.thinking.base import ThinkingFormat


def never() -> bool:
    """Asked where nobody can answer."""
    return False


class ClosedThought:
    """Ends a thought from outside, once: when it has had the budget that `params` give it, or when
    `answer_now` says so."""

    def __init__(
        self,
        text: ReplyText,
        markers: ThinkingFormat | None,
        params: SamplingParams,
        answer_now: Callable[[], bool] = never,
    ) -> None:
        self._text, self._markers, self._answer_now = text, markers, answer_now
        self._budget = params.thinking if isinstance(params.thinking, int) else None
        self._thought_n: int | None = None  # when it was ended
        self._told = False

    def ids(self) -> tuple[int, ...]:
        """The tokens that must come now; none while the model goes on by itself."""
        text, markers = self._text, self._markers
        if markers is None or self._thought_n is not None or not text.thinking:
            return ()
        if not (self._answer_now() or (self._budget is not None and text.thought_n >= self._budget)):
            return ()
        self._thought_n = text.thought_n
        return markers.answers

    def take_news(self, index: int) -> ThoughtClosed | None:
        """That it was ended, before the first token that does so, which has this index."""
        if self._thought_n is None or self._told:
            return None
        self._told = True
        return ThoughtClosed(index, self._thought_n)
