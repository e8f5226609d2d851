"""Prompts whose Enter was taken and that the chat does not hold yet.

A prompt is always in the chat, in the prompt box, or here: it leaves this list in the same step in which it
is on disk or back in the box. What stands here belongs to the draft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Pending:
    """A prompt to be sent. `edits` names the message of which it is another wording; `raw`: without the chat
    and its template."""

    text: str
    edits: str | None = None
    raw: bool = False


class Outbox:
    """First in, first out. The oldest may be under way: prepared, or being written to disk."""

    def __init__(self) -> None:
        self._pending: list[Pending] = []
        self._under_way = False

    def __bool__(self) -> bool:
        """Whether a prompt waits that is not under way."""
        return len(self._pending) > self._under_way

    def add(self, pending: Pending) -> None:
        """Put a prompt at the end."""
        self._pending.append(pending)

    @property
    def waiting(self) -> list[str]:
        """The prompts that are not under way, oldest first."""
        return [one.text for one in self._pending[self._under_way :]]

    @property
    def texts(self) -> list[str]:
        """Every prompt that is not in the chat, oldest first."""
        return [one.text for one in self._pending]

    def begin(self) -> Pending:
        """The oldest, which is under way from now on."""
        self._under_way = True
        return self._pending[0]

    def sent(self) -> None:
        """The prompt under way is in the chat."""
        del self._pending[0]
        self._under_way = False

    def postpone(self, *, at_the_tip: bool = False) -> None:
        """The prompt under way waits again, still the first. at_the_tip: it edits nothing any more."""
        if at_the_tip and self._under_way:
            self._pending[0] = replace(self._pending[0], edits=None)
        self._under_way = False

    def take_back(self, *, all: bool) -> str:
        """Remove the waiting prompts, and with `all` the one under way; one text of them, perhaps empty."""
        first = 0 if all else int(self._under_way)
        text = "\n\n".join(one.text for one in self._pending[first:])
        del self._pending[first:]
        self._under_way = self._under_way and not all
        return text
