"""Reading what will be sent while it is still typed: the chat so far, the files, a long text.

What stands in the prompt box tells how the next prompt begins. Once that has not changed for a moment and the
engine has nothing to do, it reads that beginning; the prompt then computes only what is new. Whatever else is
asked of the engine ends the reading at once. A beginning is read once, and none before something is typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chat_app.attachments.attachment import Attachment, prompt_text
from chat_app.chat.conversation import Conversation
from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.view import ChatView
from chat_app.config.settings import Settings
from chat_app.engines import news
from chat_app.engines.base import PromptRequest
from chat_app.engines.host import EngineHost
from chat_app.text.formatting import percent
from chat_app.text.sanitize import clean_line

# How long the beginning must have stood there.
SETTLE_S = 0.4
# A text of fewer characters is read in the time that the key takes.
LONG_TEXT = 1000
NAME_LENGTH = 30


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a prompt begins: behind the message `tip` (None: the first of a chat), or in the place of the
    message `edits`, with `content`. about: what is read, in a few words."""

    tip: str | None
    edits: str | None
    content: str
    about: str

    def begins_as(self, other: Beginning) -> bool:
        """Whether what was read of `other` is of use to this one."""
        same_place = (self.tip, self.edits) == (other.tip, other.edits)
        return same_place and self.content.startswith(other.content)


class Asker(Protocol):
    """The open chat, whose prompt is typed."""

    settings: Settings

    @property
    def view(self) -> ChatView:
        """Who shows how far it is."""

    @property
    def model(self) -> LoadedModel:
        """The model that would answer."""

    @property
    def conversation(self) -> Conversation:
        """The tree as it is now."""

    @property
    def busy(self) -> bool:
        """Whether the engine has something to do, or none is there."""

    def beginning_of(self, content: str, edits: str | None) -> PromptRequest:
        """What would be asked if a message of these words were sent, in the place of `edits` if given."""


class ReadAhead:
    """Follows the prompt box of an open chat. Everything here runs in the loop of the screen.

    settle_s: how long a beginning must have stood there, in seconds.
    """

    def __init__(self, chat: Asker, host: EngineHost, settle_s: float = SETTLE_S) -> None:
        self._chat = chat
        self._host = host
        self.settle_s = settle_s
        self._text = ""
        self._files: tuple[Attachment, ...] = ()
        self._edits: str | None = None
        self._running: tuple[int, Beginning] | None = None
        self._was_read: Beginning | None = None
        self._shown = ""
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, text: str, files: Sequence[Attachment] = (), edits: str | None = None) -> None:
        """The box holds `text` now, as it would be sent, with these files; "" where nothing would be."""
        self._text, self._files, self._edits = text, tuple(files), edits
        self.consider()

    def consider(self) -> None:
        """The box, the chat or the engine is another now: stop what is of no use, begin what is."""
        wanted = self._wanted()
        known = self._running[1] if self._running is not None else self._was_read
        if wanted is None or known is None or not wanted.begins_as(known):
            self.stop()
        self._settle(wanted)

    def stop(self) -> None:
        """Read nothing now, and count on nothing that was read: the engine is about to do something else. It
        keeps what it has of it all the same."""
        if self._running is not None:
            self._host.stop_ahead()
        self._running = self._was_read = None
        self._show("")
        self._settle(None)

    def take(self, item: news.ReadingAhead | news.ReadAheadEnded) -> None:
        """Take in what the host tells of it."""
        if self._running is None or item.request_id != self._running[0]:
            return
        beginning = self._running[1]
        if isinstance(item, news.ReadingAhead):
            done = percent(item.progress.done_n / item.progress.total_n)
            self._show(f"reading {beginning.about} ahead {done}")
            return
        self._running = None
        if not item.cut:
            self._was_read = beginning
            self._show(f"{beginning.about} read" if self._shown else "")
        self.consider()

    def _wanted(self) -> Beginning | None:
        """How the next prompt begins, as far as that will not change; None where nothing is to be read."""
        chat, info = self._chat, self._chat.model.info
        if not (self._text.strip() and chat.settings.read_ahead and info and info.capabilities.reads_ahead):
            return None
        long = len(self._text) >= LONG_TEXT
        content = prompt_text(self._text if long else "", self._files)
        if self._files and not long:
            content += "\n\n"  # what stands between them and whatever is asked
        return Beginning(chat.conversation.tip, self._edits, content, self._about(long=long))

    def _about(self, *, long: bool) -> str:
        if len(self._files) > 1:
            return f"{len(self._files)} files"
        if self._files:
            return clean_line(self._files[0].name, NAME_LENGTH)
        return "your text" if long else "the chat"

    def _settle(self, wanted: Beginning | None) -> None:
        """Begin with it once it has stood there for a moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wanted is not None and wanted != self._was_read and self._running is None and not self._chat.busy:
            self._timer = asyncio.get_running_loop().call_later(self.settle_s, self._begin, wanted)

    def _begin(self, wanted: Beginning) -> None:
        chat = self._chat
        if wanted != self._wanted() or self._running is not None or chat.busy:
            return  # whatever has changed it looks here again
        if wanted.edits is not None and wanted.edits not in chat.conversation:
            return
        request = chat.beginning_of(wanted.content, wanted.edits)
        self._running = self._host.read_ahead(request), wanted

    def _show(self, text: str) -> None:
        if text != self._shown:
            self._shown = text
            self._chat.view.show_ahead(text)
