"""From one block of code in the conversation to the next."""

from __future__ import annotations

from chat_app.tui.widgets.messages.list import MessageList


def code_lines(messages: MessageList) -> list[int]:
    """The line of the whole list in which each block of code begins, top to bottom."""
    from chat_app.tui.markdown.widget import FlowText  # here: the first paint waits for no Markdown parser

    top = messages.content_region.y - messages.scroll_offset.y
    return [
        text.content_region.y - top + line
        for text in messages.query(FlowText)
        if text.display
        for line in text.code_lines
    ]


def to_code(messages: MessageList, step: int) -> bool:
    """Scroll so that the next block of code below the first line in sight begins there, or with a negative
    `step` the one above it. False where there is none, or all that is below is in sight."""
    here = messages.scroll_offset.y
    lines = code_lines(messages)
    if step > 0:
        wanted = next((line for line in lines if line > here), None)
        if wanted is None or here >= messages.max_scroll_y:
            return False
    else:
        wanted = next((line for line in reversed(lines) if line < here), None)
        if wanted is None:
            return False
    messages.release_anchor()  # at its end the list would follow what is written
    messages.scroll_to(y=wanted, animate=False)
    return True
