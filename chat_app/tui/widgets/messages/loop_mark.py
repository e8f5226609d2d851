"""Where a reply began to repeat itself: a line there, and what came after it dim."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content
from textual.widgets import Static

from chat_app.chat.conversation import Message
from chat_app.text.sanitize import clean
from chat_app.tui.key_words import with_keys

MUTED = "$foreground 60%"


def before_loop(message: Message) -> str:
    """The answer up to where it begins to repeat itself: all of it where it does not."""
    loop = message.x.get("loop")
    at = loop.get("at") if isinstance(loop, Mapping) else None
    return message.content[:at] if isinstance(at, int) and at >= 0 else message.content


class LoopMark(Static, can_focus=False):
    """Stands below the part of a reply that is no repetition; hidden where there is none."""

    def __init__(self, message: Message) -> None:
        super().__init__(classes="loop-mark")
        self._message = message
        self.display = False

    def on_mount(self) -> None:
        """Where it stands is known now, and so are the keys."""
        self.show_message(self._message)

    def show_message(self, message: Message) -> None:
        """What the message says of its loop."""
        self._message = message
        loop = message.x.get("loop")
        self.display = isinstance(loop, Mapping)
        if not isinstance(loop, Mapping) or not self.is_attached:
            return
        where = "its thought" if loop.get("at") == -1 else "it"
        span_n, rounds = loop.get("span_n"), loop.get("rounds")
        line = f"── here {where} begins to repeat itself: {span_n} tokens, {rounds} times"
        line += with_keys(self, " · {chat.cut_loop} cuts ──")
        rest = clean(message.content[len(before_loop(message)) :]).strip("\n")
        body = (f"\n{rest}", MUTED) if rest else ""
        self.update(Content.assemble((line, "$text-warning"), body))
