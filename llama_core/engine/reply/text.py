"""The text of one reply as its tokens come: whole characters, thought and answer apart, no stop string."""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.engine.stops import StopScanner
from llama_core.events import TextDelta
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import Said, ThinkingFormat, ThoughtReader


class PlainReader:
    """Implements `thinking.base.ThoughtReader` for a model that has no markers: all is answer."""

    thinking = False
    answering = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decoder = tokenizer.stream()

    def push(self, token_id: int) -> list[Said]:
        """What this token completes; see `base.ThoughtReader`."""
        return [Said(self._decoder.push(token_id), thought=False)]

    def flush(self) -> list[Said]:
        """What was held back, at the end of the reply."""
        return [Said(self._decoder.flush(), thought=False)]


class ReplyText:
    """`stops` end the reply where they stand in the answer; a thought may hold them.

    thinking: the model's markers, None where it has none. prompt_ids: the prompt, which may open a thought;
    its last `begun_n` ids are the reply's own beginning, which is read silently.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        *,
        thinking: ThinkingFormat | None = None,
        prompt_ids: Sequence[int] = (),
        begun_n: int = 0,
    ) -> None:
        before = prompt_ids[: len(prompt_ids) - begun_n]
        self._reader: ThoughtReader = PlainReader(tokenizer) if thinking is None else thinking.reader(before)
        self._tokenizer = tokenizer
        self._scanner = StopScanner(())
        self.thought_n = 0  # tokens of the thought
        self._has_thought = self._reader.thinking
        self._has_answer = False
        for token_id in prompt_ids[len(before) :] if thinking is not None else ():
            self.push(token_id)
        self._scanner = StopScanner(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._scanner.stopped

    @property
    def thinking(self) -> bool:
        """Whether a token that comes now belongs to a thought."""
        return self._reader.thinking

    @property
    def before_answer(self) -> bool:
        """Whether the last token was part of a thought, or of what stands between it and the answer."""
        return self._has_thought and not self._has_answer

    def push(self, token_id: int) -> list[TextDelta]:
        """The text that this token completes."""
        answering = self._reader.answering
        said = self._reader.push(token_id)
        self.thought_n += self.thinking
        self._has_thought = self._has_thought or self.thinking
        if answering and self._reader.answering and not self._has_answer:
            self._has_answer = bool(self._tokenizer.token_bytes(token_id).strip())
        return self._deltas(said)

    def flush(self) -> list[TextDelta]:
        """What was held back, at the end of the reply."""
        deltas = self._deltas(self._reader.flush())
        rest = self._scanner.flush()
        return [*deltas, TextDelta(rest)] if rest else deltas

    def _deltas(self, said: Sequence[Said]) -> list[TextDelta]:
        deltas = [
            TextDelta(piece.text if piece.thought else self._scanner.push(piece.text), piece.thought)
            for piece in said
        ]
        return [delta for delta in deltas if delta.text]
