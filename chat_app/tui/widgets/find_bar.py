"""The row in which one types what to look for in the chat on the screen."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from chat_app.tui.key_words import with_keys
from chat_app.tui.widgets.inputs import CleanInput


class FindBar(Horizontal):
    """Hidden unless one looks for something. It tells what is typed and where to go; another finds."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "go(1)", "Next", id="find.next", priority=True),
        Binding("up,shift+enter", "go(-1)", "Previous", id="find.previous", priority=True),
        Binding("escape", "close", "Close", id="find.close", priority=True),
    ]

    class Sought(Message):
        """Something else is looked for."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    class Go(Message):
        """To the next place (step 1) or the one before (-1)."""

        def __init__(self, step: int) -> None:
            self.step = step
            super().__init__()

    class Closed(Message):
        """Nothing is looked for any more."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._input = CleanInput(placeholder="Find in this chat", id="find-text")
        self._count = Static("", id="find-count")

    def compose(self) -> ComposeResult:
        """What is looked for, and how much was found."""
        yield self._input
        yield self._count

    def open(self, text: str | None) -> None:
        """Show it, with `text` in it; None leaves what stood there, to be typed over."""
        self.display = True
        if text is not None:
            self._input.value = text
        self._input.focus()
        self._input.select_all()
        self.post_message(self.Sought(self._input.value))

    def show_count(self, at: int | None, count: int) -> None:
        """`at`: which of them, from 0."""
        if not self._input.value.strip():
            words = "{find.close} leaves"
        elif not count:
            words = "not in this chat"
        else:
            keys = "{find.next} next · {find.previous} before · {find.close} leaves"
            words = f"{(at or 0) + 1:,} of {count:,} · {keys}"
        self._count.update(Content(with_keys(self, words)))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Sought(event.value))

    def action_go(self, step: int) -> None:
        """Ask for another place."""
        self.post_message(self.Go(step))

    def action_close(self) -> None:
        """Ask to end it."""
        self.post_message(self.Closed())
