"""A reply's thought above its answer: one line, and the text dim below it when someone wants to read it."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from chat_app.chat.conversation import Message, thought_of
from chat_app.text.formatting import duration
from chat_app.text.sanitize import clean

MUTED = "$foreground 60%"
# While it grows, the end of a folded thought shows that something happens.
TAIL_LINES, TAIL_CHARACTERS = 2, 400


class ThoughtView(Static, can_focus=False):
    """Folded unless `toggle` was called; a click calls it. Nothing is shown where there is no thought."""

    def __init__(self, message: Message, *, growing: bool) -> None:
        super().__init__(classes="thought")
        self.unfolded = False
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
        self._draw()

    def add(self, text: str, tokens: int, seconds: float) -> None:
        """The thought goes on; it has so many tokens now."""
        self._parts.append(clean(text))
        self._tokens, self._seconds, self._growing = tokens, seconds, True
        self._draw()

    def end(self) -> None:
        """The answer has begun."""
        if self._growing:
            self._growing = False
            self._draw()

    def toggle(self) -> None:
        """Fold or unfold it."""
        self.unfolded = not self.unfolded
        self._draw()

    def on_click(self) -> None:
        """A click on it folds or unfolds."""
        self.toggle()

    def _draw(self) -> None:
        text = "".join(self._parts)
        self.display = bool(text)
        if not text:
            return
        facts = ["thinking" if self._growing else "thought"]
        if self._tokens:
            facts.append(f"{self._tokens:,} token{'s' if self._tokens != 1 else ''}")
        if self._seconds:
            facts.append(f"{self._seconds:.0f} s" if self._seconds >= 1 else duration(self._seconds))
        line = f"{'▾' if self.unfolded else '▸'} {' · '.join(facts)}"
        if self.unfolded:
            shown = text + "\n"
        elif self._growing:
            shown = "\n".join(text[-TAIL_CHARACTERS:].splitlines()[-TAIL_LINES:])
        else:
            shown = ""
        body = ("\n" + shown, f"italic {MUTED}") if shown else ""
        self.update(Content.assemble((line, MUTED), body))
