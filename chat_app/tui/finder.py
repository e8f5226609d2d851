"""Finding in the chat on the screen: places are marked, and one goes from each to the next."""

from __future__ import annotations

from textual.widget import Widget

from chat_app.chat.controller import ChatController
from chat_app.chat.finding import Hit, find_in_chat
from chat_app.tui.drawn_conversation import DrawnConversation
from chat_app.tui.widgets.find_bar import FindBar
from chat_app.tui.work import Work


class Finder:
    """`bar` is the widget; `prompt` gets the focus after it. Messages that are not mounted are mounted when
    one comes to them."""

    def __init__(self, session: ChatController, drawn: DrawnConversation, prompt: Widget, work: Work) -> None:
        self._session, self._drawn, self._prompt, self._work = session, drawn, prompt, work
        self.bar = FindBar(id="find")
        self._text = ""
        self._hit: Hit | None = None
        self._first: str | None = None
        self._from: str | None = None  # the message in sight when one began to type

    def open(self, text: str | None, first: str | None) -> None:
        """Show the row with `text` in it, None for what stood there; first: the message to begin at, None for
        what is in sight."""
        self._first = first
        self.bar.open(text)

    def seek(self, text: str) -> None:
        """Mark `text` everywhere and go to the first place in sight or below."""
        if text == self._text and self._hit is not None:
            return
        if not self._text:
            self._from = self._first or self._drawn.messages.first_in_sight()
        self._text, self._hit = text, None
        hits = self._hits()
        if hits:
            ids = [message.id for message in self._session.path()]
            start = ids.index(self._from) if self._from in ids else 0
            self._hit = next((hit for hit in hits if ids.index(hit.message_id) >= start), hits[0])
        self._show(hits)

    def go(self, step: int) -> None:
        """To the next place or the one before, and round at the ends."""
        hits = self._hits()
        if hits:
            at = hits.index(self._hit) + step if self._hit in hits else 0
            self._hit = hits[at % len(hits)]
        self._show(hits)

    def close(self) -> None:
        """No row and no marks any more; the place stays."""
        if not self.bar.display:
            return
        if self.bar.has_focus_within:
            self._prompt.focus()
        self.bar.display = False
        self._text, self._hit = "", None
        self._drawn.show_sought("", None)

    def _hits(self) -> list[Hit]:
        """Anew each time: the chat may have grown, or be another."""
        return find_in_chat(self._session.path(), self._text)

    def _show(self, hits: list[Hit]) -> None:
        self.bar.show_count(hits.index(self._hit) if self._hit in hits else None, len(hits))
        self._drawn.show_sought(self._text, self._hit)
        if self._hit is not None:
            hit = self._hit
            self._work.later(lambda: self._drawn.messages.show_hit(hit))
