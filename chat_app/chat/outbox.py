"""Prompts whose Enter was taken and that the chat does not hold yet.

A prompt is always in the chat, in the prompt box, or here: it leaves this list in the same step in which it
is on disk or back in the box. What stands here belongs to the draft.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from chat_app.attachments.attachment import Attachment
from chat_app.attachments.mentions import as_mention


@dataclass(frozen=True, slots=True)
class Pending:
    """A prompt to be sent. `edits` names the message of which it is another wording; `raw`: without the chat
    and its template. files: what is to be attached, by name. mentions: whether `@path` in the text attaches.
    attached: the files as they were read and shortened to fit; None: they are still to be read."""

    text: str
    edits: str | None = None
    raw: bool = False
    files: tuple[str, ...] = ()
    mentions: bool = True
    attached: tuple[Attachment, ...] | None = None

    @property
    def typed(self) -> str:
        """The prompt as one would type it: what is attached to it stands there as mentions."""
        return " ".join([*map(as_mention, self.files), self.text])


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
        return [one.typed for one in self._pending[self._under_way :]]

    @property
    def texts(self) -> list[str]:
        """Every prompt that is not in the chat, oldest first."""
        return [one.typed for one in self._pending]

    def begin(self) -> Pending:
        """The oldest, which is under way from now on."""
        self._under_way = True
        return self._pending[0]

    @property
    def asked(self) -> str:
        """The text of the prompt under way; "" where none is."""
        return self._pending[0].text if self._under_way else ""

    def shorten(self, attached: Iterable[Attachment]) -> None:
        """The prompt under way goes with these attachments, whatever it names."""
        self._pending[0] = replace(self._pending[0], attached=tuple(attached))

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
        text = "\n\n".join(one.typed for one in self._pending[first:])
        del self._pending[first:]
        self._under_way = self._under_way and not all
        return text
