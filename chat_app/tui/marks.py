"""Marks on what the user looks for: all places, and the one they are at."""

from __future__ import annotations

from textual.content import Content

from chat_app.chat.finding import places_of

STYLE = "$background on $text-warning"
CURRENT = "bold $background on $text-accent"


def marked(content: Content, text: str, current: int | None) -> Content:
    """`content` with the places of `text` marked, the one numbered `current` most of all."""
    for number, (start, end) in enumerate(places_of(content.plain, text)):
        content = content.stylize(CURRENT if number == current else STYLE, start, end)
    return content
