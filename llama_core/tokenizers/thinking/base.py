"""What is asked of a way of writing thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of a reply's text, and whether it is thought."""

    text: str
    thought: bool


class ThoughtReader(Protocol):
    """Reads one reply, token by token; the markers are part of no text."""

    @property
    def thinking(self) -> bool:
        """Whether a token that comes now belongs to a thought."""

    @property
    def answering(self) -> bool:
        """Whether a token that comes now belongs to the answer: not to a thought, nor to a marker."""

    def push(self, token_id: int) -> list[Said]:
        """What this token completes; may be nothing. Raises IndexError for an id outside."""

    def flush(self) -> list[Said]:
        """What was held back, at the end of the reply. A thought that was cut off stays one."""


class ThinkingFormat(Protocol):
    """The markers of one model, as the ids that stand for them in a prompt."""

    @property
    def begins(self) -> tuple[int, ...]:
        """Opens a thought at the beginning of a reply."""

    @property
    def answers(self) -> tuple[int, ...]:
        """Closes a thought, so that the answer follows."""

    @property
    def skips(self) -> tuple[int, ...]:
        """Begins a reply that has no thought."""

    def reader(self, prompt_ids: Sequence[int]) -> ThoughtReader:
        """Of the reply to a prompt, which may itself open the thought."""
