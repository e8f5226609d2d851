"""A reply's words with a background by how sure the model was of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from textual.content import Content
from textual.widgets import Static

from chat_app.chat.reply import ScoredText
from chat_app.text.sanitize import clean

# (probability from which it holds, its name, its style), the surest first.
SHADES = (
    (0.9, "plain", ""),
    (0.5, "green", "on $success 25%"),
    (0.1, "amber", "on $warning 30%"),
    (0.0, "red", "on $error 40%"),
)
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


class TintedText(Static, can_focus=False):
    """Stands in the place of a reply's Markdown while it has something to show: the text as the model wrote
    it, since marks are tokens too."""

    def __init__(self) -> None:
        super().__init__(classes="message-text")
        self.display = False
        self._shown: tuple[ScoredText, ...] = ()

    def show(self, pieces: Sequence[ScoredText], length: int) -> bool:
        """Show the first `length` characters of the pieces; whether there are any."""
        shown: list[ScoredText] = []
        for text, logprob in pieces:
            if text[:length]:
                shown.append(ScoredText(text[:length], logprob))
            length -= min(length, len(text))
        if tuple(shown) != self._shown:
            self._shown = tuple(shown)
            runs = groupby(shown, key=lambda piece: tint(piece.logprob))
            self.update(
                Content.assemble(*((clean("".join(one.text for one in run)), style) for style, run in runs))
            )
        self.display = bool(shown)
        return self.display
