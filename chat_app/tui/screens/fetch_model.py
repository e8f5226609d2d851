"""Fetching a model: a bar, and a way to stop, to try again, or to go on without."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, ProgressBar, Static

from chat_app.text import formatting as fmt
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.screens.dialog import Dialog

SHOW_PERIOD_S = 0.1


# What the downloading thread tells the screen: messages, since those to a screen that has gone are dropped.


class FetchProgress(Message, bubble=False):
    """Bytes so far and in all (0 where that is unknown)."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__()
        self.done, self.total = done, total


class FetchFailed(Message, bubble=False):
    """Why, in a sentence."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Fetched(Message, bubble=False):
    """The model's file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class FetchScreen(Dialog[Path]):
    """The model's file, or None when the user went on without one."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._model = name
        self._stop = threading.Event()
        self._shown_at = 0.0
        self._transfer = fmt.Transfer()
        self._warned = False  # that it would not run here

    def compose(self) -> ComposeResult:
        """A line of text, a bar, and the buttons to stop, try again or leave."""
        with Vertical(classes="dialog"):
            yield Static(Content(f"Fetching the model {clean_line(self._model)}"), classes="dialog-title")
            yield Static("", id="fetch-text")
            yield ProgressBar(total=None, show_eta=False, id="fetch-bar")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Stop", id="fetch-stop")
                yield Button("Try again", id="fetch-again", variant="primary")
                yield Button("Go on without", id="fetch-leave")

    def on_unmount(self) -> None:
        """The download ends with the screen."""
        self._stop.set()

    def begin(self) -> None:
        """Start the download in a thread; also the second try."""
        self._stop = threading.Event()
        self._transfer = fmt.Transfer()
        self._show_running(True)
        self._say("Once only; the next start finds it on this machine.")
        self.query_one(ProgressBar).update(total=None, progress=0)
        self.run_worker(self._pull, thread=True, group="fetch", exclusive=True)

    def _show_running(self, running: bool) -> None:
        self.query_one("#fetch-stop").display = running
        self.query_one("#fetch-again").display = not running
        self.query_one("#fetch-leave").display = not running
        self.query_one(ProgressBar).display = running
        self.query_one("#fetch-stop" if running else "#fetch-again").focus()

    def _pull(self) -> None:
        """On a thread. The downloader verifies before anything becomes visible."""
        from chat_app.models.download.pull import look, pull
        from chat_app.models.outlook import Outlooks

        stop = self._stop
        try:
            found = None if self._warned else look(self._model, stop.is_set)
            outlook = Outlooks().of_remote(found.facts) if found is not None else None
            if outlook is not None and (outlook.why_not or not outlook.fits):
                self._warned = True
                self.post_message(FetchFailed(f"{outlook.sentence} Try again fetches it all the same."))
                return
            self.post_message(Fetched(pull(self._model, self._on_progress, stop.is_set)))
        except Exception as error:  # noqa: BLE001 - network, disk, pip: whatever it is, the app stays open
            self.post_message(FetchFailed(describe_error(error)))

    def _on_progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown_at >= SHOW_PERIOD_S or done >= total:
            self._shown_at = now
            if not self._stop.is_set():
                self.post_message(FetchProgress(done, total))

    def on_fetched(self, message: Fetched) -> None:
        """Close with the model's file."""
        self.dismiss(message.path)

    def on_fetch_progress(self, message: FetchProgress) -> None:
        """Move the bar; without a known total it shows only that something happens."""
        self.query_one(ProgressBar).update(total=message.total or None, progress=message.done)
        self._say(self._transfer.text(message.done, message.total))

    def on_fetch_failed(self, message: FetchFailed) -> None:
        """Say why, and offer another try."""
        self._say(message.text)
        self._show_running(False)

    def _say(self, text: str) -> None:
        self.query_one("#fetch-text", Static).update(Content(clean(text)))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Stop, try again, or close without a model."""
        if event.button.id == "fetch-stop":
            self._stop.set()
            self._say("Stopping …")
        elif event.button.id == "fetch-again":
            self.begin()
        else:
            self.dismiss(None)

    def action_close(self) -> None:
        """Stop the download and close without a model (Esc)."""
        self._stop.set()
        self.dismiss(None)
