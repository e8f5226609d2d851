"""How much of a conversation is mounted: a stretch of messages, bounded by their number and their lines.

What a resize, other colours or a change of focus cost grows with what is mounted, not with the chat.
"""

from __future__ import annotations

from collections.abc import Sequence

from chat_app.chat.conversation import Message

MESSAGES = 20  # with a thousand mounted paragraphs every focus change takes a second
LINES = 1500
LINE_CHARACTERS = 80


def lines_of(message: Message) -> int:
    """About so many lines a message takes on the screen."""
    return 3 + message.content.count("\n") + len(message.content) // LINE_CHARACTERS


def reach(path: Sequence[Message], start: int, step: int) -> int:
    """Where the stretch ends that begins at `start` and goes down (step 1) or up (-1), as a slice has it.

    It holds at least one message where there is one.
    """
    end, lines = start, 0
    while (end > 0 if step < 0 else end < len(path)) and abs(end - start) < MESSAGES:
        lines += lines_of(path[end - 1 if step < 0 else end])
        if lines > LINES and end != start:
            break
        end += step
    return end
