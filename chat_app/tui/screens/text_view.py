"""A text, or a text cut into tokens, on a screen of its own."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog

MAX_TOKENS_SHOWN = 5000
FRAME = 7  # columns beside the text: border, padding, scrollbar


class TextScreen(Dialog[None]):
    """Read and close. It is as wide as its longest line, where the screen has that: rows of a table stay
    whole."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """The title and the text, which scrolls."""
        title, body = Content(clean_line(self._title)), self.body()
        with Vertical(classes="dialog -text") as dialog:
            dialog.styles.width = FRAME + max(line.cell_length for line in (title, *body.split("\n")))
            yield Static(title, classes="dialog-title")
            with VerticalScroll(classes="dialog-body", can_focus=True):
                yield Static(body)
            yield KeyWords("{dialog.close} closes")

    def body(self) -> Content:
        """What is shown, made inert."""
        return Content(clean(self._text))


class TokensScreen(TextScreen):
    """(id, text) of each token, in alternating colours so that the cuts can be seen."""

    STYLES = ("on $primary 30%", "on $secondary 30%", "on $success 30%")

    def __init__(self, pieces: Sequence[tuple[int, str]]) -> None:
        super().__init__(f"{len(pieces):,} tokens", "")
        self._pieces = pieces[:MAX_TOKENS_SHOWN]
        self._left = len(pieces) - len(self._pieces)

    def body(self) -> Content:
        """The tokens, coloured in turn, and their ids below."""
        parts: list[str | tuple[str, str]] = []
        for number, (_, text) in enumerate(self._pieces):
            parts.append((clean(text).replace("\t", "→") or "·", self.STYLES[number % len(self.STYLES)]))
        ids = " ".join(str(token) for token, _ in self._pieces)
        if self._left:
            parts.append(f"\n… and {self._left:,} more")
        return Content.assemble(*parts, ("\n\n" + ids, "$foreground 60%"))
