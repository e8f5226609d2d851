"""A reply's thought above its answer: one line, and the text dim below it when someone wants to read it."""

from __future__ import annotations

from textual.content import Content

from chat_app.chat.conversation import Message, thought_of
from chat_app.text.formatting import duration
from chat_app.text.sanitize import clean
from chat_app.tui.widgets.messages.fold import Fold

MUTED = "$foreground 60%"
# While it grows, the end of a folded thought shows that something happens.
TAIL_LINES, TAIL_CHARACTERS = 2, 400


class ThoughtView(Fold):
    """While the thought grows, its end is shown even where it is folded."""

    def __init__(self, message: Message, *, growing: bool) -> None:
        super().__init__(self._drawn, classes="thought")
        self._parts: list[str] = []
        self._tokens, self._seconds = 0, 0.0
        self._growing = growing
        self.show_message(message, growing=growing)

    def show_message(self, message: Message, *, growing: bool) -> None:
        """What the message says of its thought."""
        self._parts = [clean(thought_of(message))]
        n, seconds = message.x.get("thought_n"), message.x.get("thought_s")
        self._tokens = n if isinstance(n, int) else 0
        self._seconds = float(seconds) if isinstance(seconds, int | float) else 0.0
        self._growing = growing and not message.content
        self.draw()

    def add(self, text: str, tokens: int, seconds: float) -> None:
        """The thought goes on; it has so many tokens now."""
        self._parts.append(clean(text))
        self._tokens, self._seconds, self._growing = tokens, seconds, True
        self.draw()

    def end(self) -> None:
        """The answer has begun."""
        if self._growing:
            self._growing = False
            self.draw()

    def _drawn(self) -> Content:
        """A line of facts, and below it the text, or its end, or nothing."""
        text = "".join(self._parts)
        if not text:
            return Content("")
        facts = ["thinking" if self._growing else "thought"]
        if self._tokens:
            facts.append(f"{self._tokens:,} token{'s' if self._tokens != 1 else ''}")
        if self._seconds:
            facts.append(f"{self._seconds:.0f} s" if self._seconds >= 1 else duration(self._seconds))
        line = f"{self.mark} {' · '.join(facts)}"
        if self.unfolded:
            below = text + "\n"
        elif self._growing:
            below = "\n".join(text[-TAIL_CHARACTERS:].splitlines()[-TAIL_LINES:])
        else:
            below = ""
        body = ("\n" + below, f"italic {MUTED}") if below else ""
        return Content.assemble((line, MUTED), body)
