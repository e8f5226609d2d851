"""Thoughts in a channel of their own, as gpt-oss writes them (OpenAI's Harmony format).

A reply is one or more messages. Each has a header with the name of its channel; "analysis" is thought, all
else is for the user:

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import Said

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
ANALYSIS = "analysis"
# A header that has no end is text: a model that was tuned into other habits has left its format.
MAX_HEADER = 120
# Where the last header of a prompt begins is looked for this far back.
PROMPT_TAIL = 64


@dataclass(frozen=True)
class ChannelFormat:
    """Implements `base.ThinkingFormat`."""

    tokenizer: Tokenizer

    @property
    def begins(self) -> tuple[int, ...]:
        """Opens a thought at the beginning of a reply."""
        return self._ids(f"{CHANNEL}{ANALYSIS}{MESSAGE}")

    @property
    def answers(self) -> tuple[int, ...]:
        """Closes a thought, so that the answer follows."""
        return self._ids(f"{END}{START}assistant{CHANNEL}final{MESSAGE}")

    @property
    def skips(self) -> tuple[int, ...]:
        """Begins a reply that has no thought."""
        return self._ids(f"{CHANNEL}final{MESSAGE}")

    def reader(self, prompt_ids: Sequence[int]) -> ChannelReader:
        """Of the reply to a prompt, which may itself open the thought."""
        tail = prompt_ids[-PROMPT_TAIL:]
        start = self.tokenizer.special_tokens.get(START)
        last = next((at for at in range(len(tail) - 1, -1, -1) if tail[at] == start), len(tail))
        reader = ChannelReader(self)
        for token_id in tail[last:]:
            reader.push(token_id)
        reader.begin()
        return reader

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, special=True))


class ChannelReader:
    """Implements `base.ThoughtReader`."""

    def __init__(self, channels: ChannelFormat) -> None:
        special = channels.tokenizer.special_tokens
        self._start, self._channel, self._message, self._end = (
            special.get(name) for name in (START, CHANNEL, MESSAGE, END)
        )
        self._decoder = channels.tokenizer.stream()
        self._header: str | None = ""  # None: the message itself
        self._name = ""
        self._marked = False  # the reply has written a marker

    @property
    def thinking(self) -> bool:
        """Whether a token that comes now belongs to a thought."""
        return self._header is None and self._name == ANALYSIS

    @property
    def answering(self) -> bool:
        """Whether a token that comes now belongs to the answer."""
        return self._header is None and self._name != ANALYSIS

    def begin(self) -> None:
        """The prompt is read: the reply begins, in the header that it has opened or in the message."""
        self._header = None if self._header is None else ""
        self._marked = False

    def push(self, token_id: int) -> list[Said]:
        """What this token completes; see `base.ThoughtReader`."""
        if token_id in (self._start, self._end, self._channel):
            said = self._take(self._decoder.flush())
            self._header, self._marked = "", True
            return said
        if token_id == self._message:
            words = (self._header or "").split()
            self._name, self._header = words[0] if words else "", None
            return []
        return self._take(self._decoder.push(token_id))

    def flush(self) -> list[Said]:
        """What was held back, at the end of the reply."""
        said = self._take(self._decoder.flush())
        if self._header and not self._marked:  # a short reply that has no header at all
            said.append(Said(self._header, thought=False))
        return said

    def _take(self, text: str) -> list[Said]:
        if self._header is None:
            return [Said(text, self._name == ANALYSIS)] if text else []
        self._header += text
        if len(self._header) <= MAX_HEADER:
            return []
        text, self._header, self._name = self._header, None, ""
        return [Said(text, thought=False)]
