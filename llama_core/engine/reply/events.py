"""The events of one reply: to what was drawn come its text, the end of a thought, a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llama_core.engine.loops import LoopWatch
from llama_core.engine.reply.closed_thought import ClosedThought, never
from llama_core.engine.reply.text import ReplyText
from llama_core.events import Event, Finished, PrefillProgress, TokenEvent
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.thinking.base import ThinkingFormat


class ReplyEvents:
    """Reads the tokens of a reply as they are drawn, one by one or in a batch. markers: of the model's
    thoughts, None where they are not told apart."""

    def __init__(
        self,
        text: ReplyText,
        loops: LoopWatch,
        markers: ThinkingFormat | None,
        params: SamplingParams,
        answer_now: Callable[[], bool] = never,
    ) -> None:
        self._text, self._loops = text, loops
        self._closing = ClosedThought(text, markers, params, answer_now)
        # Asked before each draw: ids that must come next. None where no thought can be ended.
        self.dictated: Callable[[], Sequence[int]] | None = None if markers is None else self._closing.ids

    @property
    def stopped(self) -> bool:
        """Whether the reply ends here: at a stop string, or because it repeats itself."""
        return self._text.stopped or self._loops.found is not None

    def of(self, event: PrefillProgress | TokenEvent | Finished) -> Iterator[Event]:
        """The event, and what it brings."""
        if isinstance(event, Finished):
            yield from self._text.flush()
            if self._loops.found is not None:
                yield self._loops.found
                event = replace(event, reason="loop")
            yield event
        elif isinstance(event, TokenEvent):
            if (closed := self._closing.take_news(event.index)) is not None:
                yield closed
            deltas = self._text.push(event.id)
            self._loops.push(event.id)
            yield replace(event, thought=True) if self._text.before_answer else event
            yield from deltas
        else:
            yield event
