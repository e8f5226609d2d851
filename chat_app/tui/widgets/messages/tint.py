"""A reply's words with a background by how sure the model was of them, and a cursor over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar, Protocol

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from chat_app.chat.token_scores import NOWHERE, ScoredText
from chat_app.text.sanitize import clean

# (probability from which it holds, its name, its style), the surest first.
SHADES = (
    (0.9, "plain", ""),
    (0.5, "green", "on $success 25%"),
    (0.1, "amber", "on $warning 30%"),
    (0.0, "red", "on $error 40%"),
)
CURSOR = "reverse bold"
LEGEND = (
    ", ".join(f"{name} from {least:.0%}" for least, name, _ in SHADES[:-1])
    + f", {SHADES[-1][1]} below {SHADES[-2][0]:.0%}"
)


def tint(logprob: float | None) -> str:
    """A background by how sure the model was: none for certain, red for a long shot."""
    if logprob is None or math.isnan(logprob):
        return ""
    probability = math.exp(min(0.0, logprob))
    return next(style for least, _, style in SHADES if probability >= least)


def line_of(before: Content, width: int) -> int:
    """The line on which goes on what stands behind `before`, wrapped to so many cells."""
    return max(0, len(before.wrap(max(1, width))) - 1)


def character_at(text: str, width: int, x: int, y: int) -> int:
    """The place of what is drawn in a cell, where `text` is wrapped to `width` cells; -1 where nothing is."""
    lines = Content(text).wrap(max(1, width))
    begin = end = cells = 0
    for line in lines[: y + 1]:  # without the blank at which it was broken
        begin = text.find(line.plain.strip("\n"), end)
        end = begin + len(line.plain)
    for place in range(begin, end if 0 <= y < len(lines) else begin):
        cells += cell_len(text[place])
        if cells > x:
            return place
    return -1


class CursorKeys(Protocol):
    """What the keys of the cursor do."""

    def move(self, step: int) -> None:
        """Go `step` tokens on."""

    def jump(self, place: int) -> None:
        """Go to the first token (0) or the last (-1)."""

    def seek(self, step: int) -> None:
        """Go to the next doubtful token, or (-1) the one before."""

    def choose(self, step: int) -> None:
        """Mark another alternative."""

    def branch(self) -> None:
        """Take the marked alternative, in a branch."""

    def draw(self) -> None:
        """Show how the reply could go on from here."""

    def inspect(self) -> None:
        """Show all there is to know of the token."""

    def leave(self) -> None:
        """Go back to the prompt."""

    def ended(self) -> None:
        """The focus has gone, and the cursor with it."""


class TintedText(Static, can_focus=False):
    """Stands in the place of a reply's Markdown while it has something to show: the text as the model wrote
    it, since marks are tokens too. With the focus it has a cursor over its tokens."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "keys('seek', 1)", "Doubtful", id="tokens.doubtful", tooltip="Next doubtful token"),
        Binding("shift+tab", "keys('seek', -1)", "Previous doubtful token", id="tokens.doubtful_before"),
        Binding(
            "enter", "keys('branch')", "Branch", id="tokens.branch", tooltip="Branch with what is marked"
        ),
        Binding("alt+n", "keys('draw')", "Eight", id="tokens.draw", tooltip="Draw eight continuations"),
        Binding("alt+i", "keys('inspect')", "Inspect", id="tokens.inspect", tooltip="All about this token"),
        Binding("escape", "keys('leave')", "Back", id="tokens.leave", tooltip="Back to the prompt"),
        Binding("right", "keys('move', 1)", "Next token", id="tokens.next"),
        Binding("left", "keys('move', -1)", "Previous token", id="tokens.previous"),
        Binding("down", "keys('choose', 1)", "Next alternative", id="tokens.down"),
        Binding("up", "keys('choose', -1)", "Previous alternative", id="tokens.up"),
        Binding("home", "keys('jump', 0)", "First token", id="tokens.first"),
        Binding("end", "keys('jump', -1)", "Last token", id="tokens.last"),
    ]

    class Pointed(Message):
        """A token of the reply was clicked."""

        def __init__(self, text: TintedText, at: int) -> None:
            self.text, self.at = text, at
            super().__init__()

    def __init__(self) -> None:
        super().__init__(classes="message-text")
        self.display = False
        self.shown: tuple[ScoredText, ...] = ()
        self._drawn: tuple[object, ...] = ()
        self._cursor: int | None = None
        self._keys: CursorKeys | None = None

    def show(self, pieces: Sequence[ScoredText], length: int) -> bool:
        """Show the first `length` characters of the pieces; whether there are any."""
        shown: list[ScoredText] = []
        for piece in pieces:
            if piece.text[:length]:
                shown.append(piece._replace(text=piece.text[:length]))
            length -= min(length, len(piece.text))
        self.shown = tuple(shown)
        self._draw()
        self.display = bool(shown)
        return self.display

    def take_cursor(self, keys: CursorKeys) -> None:
        """Take the focus; `keys` does what its keys say."""
        self._keys, self.can_focus = keys, True
        self.focus(scroll_visible=False)

    def set_cursor(self, at: int) -> int:
        """Put the cursor on the piece that begins with the reply's token `at`; returns its line."""
        self._cursor = at
        self._draw()
        before = [clean(piece.text) for piece in self._before(at)]
        return line_of(Content("".join(before)), self.size.width)

    def piece_at(self, at: int) -> ScoredText | None:
        """The piece that begins with the reply's token `at`; None where none does."""
        return next((piece for piece in self.shown if piece.at == at), None)

    def _before(self, at: int) -> Sequence[ScoredText]:
        place = next((place for place, piece in enumerate(self.shown) if piece.at == at), 0)
        return self.shown[:place]

    def on_click(self, event: Click) -> None:
        """Tell which token stands there, unless a text was selected."""
        at = self._at_cell(event.x, event.y)
        if at >= 0 and not self.screen.get_selected_text():
            self.post_message(self.Pointed(self, at))

    def _at_cell(self, x: int, y: int) -> int:
        """The token whose text is drawn at a cell; NOWHERE where none is known."""
        text = "".join(clean(piece.text) for piece in self.shown)
        place = character_at(text, self.size.width, x, y)
        if place < 0:
            return NOWHERE
        for piece in self.shown:
            place -= len(clean(piece.text))
            if place < 0:
                return piece.at
        return NOWHERE

    def on_blur(self) -> None:
        """Without the focus there is no cursor."""
        self.can_focus, self._cursor = False, None
        self._draw()
        keys, self._keys = self._keys, None
        if keys is not None:
            keys.ended()

    def action_keys(self, name: str, *values: int) -> None:
        """Do what a key of the cursor does."""
        if self._keys is not None:
            getattr(self._keys, name)(*values)

    def _draw(self) -> None:
        drawn = (self.shown, self._cursor)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        runs = groupby(self.shown, key=self._style)
        self.update(
            Content.assemble(*((clean("".join(one.text for one in run)), style) for style, run in runs))
        )

    def _style(self, piece: ScoredText) -> str:
        return CURSOR if self._cursor is not None and piece.at == self._cursor else tint(piece.logprob)
