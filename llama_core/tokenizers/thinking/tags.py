"""Thoughts between two tags: `<think>` and `</think>` in most models.

Where the tags are tokens of the vocabulary, only those tokens count: the same letters in other tokens are
text. Elsewhere (Granite) the letters count. A thought opens where a reply begins and nowhere else, so that
an answer may speak of tags, in a block of code or out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import Said

# Granite puts the answer between tags of its own.
ANSWER_TAGS = ("<response>", "</response>")
# How far back in a prompt an open tag may stand: behind it is white space alone.
PROMPT_TAIL = 32


@dataclass(frozen=True)
class TagFormat:
    """Implements `base.ThinkingFormat`. opening, closing: the tags as text."""

    tokenizer: Tokenizer
    opening: str
    closing: str

    @property
    def opening_ids(self) -> tuple[int, ...]:
        """The tokens of the opening tag."""
        return tuple(self.tokenizer.encode(self.opening, special=True))

    @property
    def closing_ids(self) -> tuple[int, ...]:
        """The tokens of the closing tag."""
        return tuple(self.tokenizer.encode(self.closing, special=True))

    @property
    def by_token(self) -> bool:
        """Whether each tag is one token."""
        return len(self.opening_ids) == len(self.closing_ids) == 1

    @property
    def begins(self) -> tuple[int, ...]:
        """Opens a thought at the beginning of a reply."""
        return (*self.opening_ids, *self.tokenizer.encode("\n"))

    @property
    def answers(self) -> tuple[int, ...]:
        """Closes a thought, so that the answer follows."""
        line, lines = self.tokenizer.encode("\n"), self.tokenizer.encode("\n\n")
        return (*line, *self.closing_ids, *lines)

    @property
    def skips(self) -> tuple[int, ...]:
        """Begins a reply that has no thought."""
        lines = self.tokenizer.encode("\n\n")
        return (*self.opening_ids, *lines, *self.closing_ids, *lines)

    def reader(self, prompt_ids: Sequence[int]) -> TagReader:
        """Of the reply to a prompt, which may itself open the thought."""
        return TagReader(self, thinking=self._ends_open(prompt_ids))

    def _ends_open(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt ends with the opening tag, white space aside."""
        tail = list(prompt_ids[-PROMPT_TAIL:])
        if self.by_token:
            opening = self.opening_ids[0]
            while tail and not self.tokenizer.token_bytes(tail[-1]).strip() and tail[-1] != opening:
                if tail.pop() == self.closing_ids[0]:
                    return False
            return tail[-1:] == [opening]
        return self.tokenizer.decode(tail).rstrip().endswith(self.opening)


class TagReader:
    """Implements `base.ThoughtReader`. thinking: the prompt has opened the thought."""

    def __init__(self, tags: TagFormat, *, thinking: bool) -> None:
        self._tags = tags
        by_token = tags.by_token
        self._opening = tags.opening_ids[0] if by_token else None
        self._closing = tags.closing_ids[0] if by_token else None
        self._decoder = tags.tokenizer.stream()
        self._place: Literal["begin", "thought", "answer"] = "thought" if thinking else "begin"
        self._after_thought = False  # the answer's first white space and tag are no part of it
        self._begun = False  # something but white space of this thought or answer was said
        self._held = ""  # white space that may be followed by nothing, or the beginning of a tag

    @property
    def thinking(self) -> bool:
        """Whether a token that comes now belongs to a thought."""
        return self._place == "thought"

    @property
    def answering(self) -> bool:
        """Whether a token that comes now belongs to the answer."""
        return self._place == "answer"

    def push(self, token_id: int) -> list[Said]:
        """What this token completes; see `base.ThoughtReader`."""
        if token_id == self._opening and (self._place == "begin" or (self.thinking and not self._begun)):
            self._open()
            return []
        if token_id == self._closing and self.thinking:
            said = self._take(self._decoder.flush())
            self._close()
            return said
        return self._take(self._decoder.push(token_id))

    def flush(self) -> list[Said]:
        """What was held back, at the end of the reply."""
        said = self._take(self._decoder.flush())
        rest, self._held = self._held, ""
        if self.thinking or (self._after_thought and not self._begun):
            rest = rest.rstrip()
        if self._after_thought:
            rest = rest.removesuffix(ANSWER_TAGS[1])
        return [*said, *self._said(rest)]

    def _open(self) -> None:
        self._place, self._held, self._begun = "thought", "", False

    def _close(self) -> None:
        self._place, self._held, self._begun, self._after_thought = "answer", "", False, True

    def _said(self, text: str) -> list[Said]:
        self._begun = self._begun or bool(text.strip())
        return [Said(text, self.thinking)] if text else []

    def _take(self, text: str) -> list[Said]:
        """What can be said of the text so far."""
        self._held += text
        if self._place == "begin":
            begin = self._held.lstrip()
            tag = "" if self._opening is not None else self._tags.opening
            if tag and begin.startswith(tag):
                rest = begin[len(tag) :]
                self._open()
                return self._take(rest)
            if not begin or (tag and tag.startswith(begin)):
                return []
            self._place = "answer"
        said: list[Said] = []
        if self.thinking:
            tag = "" if self._closing is not None else self._tags.closing
            if tag and tag in self._held:
                thought, _, rest = self._held.partition(tag)
                self._held = thought
                said += self._thought(tag)
                self._close()
                return [*said, *self._take(rest)]
            return self._thought(tag)
        return self._answer()

    def _thought(self, tag: str) -> list[Said]:
        """The held text but for white space at its end, and what may be the beginning of the closing tag."""
        if not self._begun:
            opening = "" if self._opening is not None else self._tags.opening
            self._held = self._held.lstrip().removeprefix(opening).lstrip()
            if self._held and opening.startswith(self._held):
                return []
        end = len(self._held) - overlap(self._held, tag)
        end = len(self._held[:end].rstrip())
        text, self._held = self._held[:end], self._held[end:]
        return self._said(text)

    def _answer(self) -> list[Said]:
        """The held text; behind a thought without the tags around the answer."""
        if not self._after_thought:
            text, self._held = self._held, ""
            return self._said(text)
        opening, closing = ANSWER_TAGS
        if not self._begun:
            self._held = self._held.lstrip().removeprefix(opening).lstrip()
            if not self._held or opening.startswith(self._held):
                return []
        keep = max(overlap(self._held, closing), len(closing) * self._held.endswith(closing))
        end = len(self._held) - keep
        text, self._held = self._held[:end], self._held[end:]
        return self._said(text)


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that `tag` begins with, but is not all of."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
