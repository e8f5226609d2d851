"""Is the terminal light or dark? It is asked for its background (OSC 11, as xterm has it) and may answer.

The answer comes among the keys. So it is looked for only for a moment after the question, and what turns out
to be none goes on as it came.
"""

from __future__ import annotations

import re

from textual.message import Message

from chat_app.tui.contrast import contrast

ASK = "\x1b]11;?\x1b\\"
WAIT_S = 2.0
ESC = "\x1b"
BEGINS = "\x1b]11;rgb:"
ANSWER = re.compile(
    BEGINS.replace("]", r"\]") + r"([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})(?:\x07|\x1b\\)"
)
# What may still become one; a lone ESC is the key.
BEGINNING = re.compile(r"\x1b\](1(1(;(r(g(b(:[0-9a-fA-F/]{0,14}\x1b?)?)?)?)?)?)?)?")

Rgb = tuple[int, int, int]


class BackgroundTold(Message):
    """The terminal's background, 0 to 255 each."""

    def __init__(self, rgb: Rgb) -> None:
        super().__init__()
        self.rgb = rgb

    @property
    def is_light(self) -> bool:
        """Whether black text is easier to read on it than white text."""
        return contrast((0, 0, 0), self.rgb) > contrast((255, 255, 255), self.rgb)


class AnswerFilter:
    """Takes the answer out of what the terminal sends, in whatever pieces it comes. Until then it holds back
    what may be the answer's beginning; `rest` gives that up."""

    def __init__(self) -> None:
        self.told: Rgb | None = None
        self._held = ""

    def filter(self, text: str) -> str:
        """What of `text`, which continues what was given before, is no answer."""
        text, self._held = self._held + text, ""
        if (found := ANSWER.search(text)) is not None:
            red, green, blue = (int(part, 16) * 255 // (16 ** len(part) - 1) for part in found.groups())
            self.told = red, green, blue
            return text[: found.start()] + text[found.end() :]
        for start in (at for at, character in enumerate(text) if character == ESC):
            if BEGINNING.fullmatch(text, start):
                self._held = text[start:]
                return text[:start]
        return text

    def rest(self) -> str:
        """What is held back: there comes no answer any more."""
        held, self._held = self._held, ""
        return held
