"""A download, in a row above the prompt: one goes on typing, and what is sent waits for the model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from chat_app.text import formatting as fmt
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line
from chat_app.tui.key_words import with_keys

SHOW_PERIOD_S = 0.1
BAR_WIDTH = 20  # before the row is laid out


class FetchProgress(Message, bubble=False):
    """Bytes so far and in all (0: unknown). The downloading thread sends it as a message: one to a row that
    has gone is dropped."""

    def __init__(self, done: int, total: int, of: threading.Event) -> None:
        super().__init__()
        self.done, self.total, self.of = done, total, of


class FetchRow(Horizontal, can_focus=False):
    """Hidden but while something is fetched. One download at a time; it never has the focus."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stop: threading.Event | None = None
        self._transfer = fmt.Transfer()
        self._name = ""
        self._insisted: set[str] = set()  # told that they would not run here

    def compose(self) -> ComposeResult:
        """What is fetched and how much of it is here, and a bar."""
        yield Static("", id="fetch-text")
        yield Static("", id="fetch-bar")

    @property
    def running(self) -> bool:
        """Whether a download is under way."""
        return self._stop is not None

    def stop(self) -> bool:
        """End the download; the next try goes on with it. False where none runs, or it ends already."""
        if self._stop is None or self._stop.is_set():
            return False
        self._stop.set()
        self._say("stopping …")
        return True

    def on_unmount(self) -> None:
        """The download ends with the app."""
        self.stop()

    async def fetch(self, name: str) -> Path:
        """The model's file or folder. Raises what `download.pull.pull` raises, and SentenceError where a look
        at the model says that it would not run here: asked for once more it is fetched all the same."""
        stop = threading.Event()
        self._stop, self._name, self._transfer = stop, clean_line(name), fmt.Transfer()
        self.display = True
        self._say("once only; the next start finds it on this machine")
        self._draw_bar(0.0)
        try:
            return await asyncio.to_thread(self._pull, name, stop)
        finally:
            stop.set()  # a newer choice cancels this one
            if self._stop is stop:
                self._stop = None
                self.display = False

    def _pull(self, name: str, stop: threading.Event) -> Path:
        """On a thread. The downloader verifies before anything becomes visible."""
        from chat_app.models.download.pull import look, pull
        from chat_app.models.outlook import Outlooks

        found = None if name in self._insisted else look(name, stop.is_set)
        outlook = Outlooks().of_remote(found.facts) if found is not None else None
        if outlook is not None and (outlook.why_not or not outlook.fits):
            self._insisted.add(name)
            raise SentenceError(f"{outlook.sentence} /model {name} once more fetches it all the same.")
        return pull(name, self._teller(stop), stop.is_set)

    def _teller(self, stop: threading.Event) -> Callable[[int, int], None]:
        """Tells the screen how far it is, not too often; nothing once `stop` is set."""
        shown_at = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if not stop.is_set() and (now - shown_at >= SHOW_PERIOD_S or done >= total):
                shown_at = now
                self.post_message(FetchProgress(done, total, stop))

        return tell

    def on_fetch_progress(self, message: FetchProgress) -> None:
        """Move the bar, and say how much of it is here."""
        if message.of is self._stop and not message.of.is_set():
            self._draw_bar(message.done / message.total if message.total else 0.0)
            self._say(self._transfer.text(message.done, message.total))

    def _draw_bar(self, fraction: float) -> None:
        """All of it empty while the size is unknown."""
        bar = self.query_one("#fetch-bar", Static)
        filled, rest = fmt.bar(fraction, bar.size.width or BAR_WIDTH)
        bar.update(Content.assemble((filled, "$primary"), (rest, "$foreground 60%")), layout=False)

    def _say(self, text: str) -> None:
        parts = (
            f"Fetching {self._name}: ",
            (text, "bold"),
            (with_keys(self, " · {chat.stop} stops"), "$foreground 60%"),
        )
        self.query_one("#fetch-text", Static).update(Content.assemble(*parts))
