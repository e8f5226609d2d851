"""The message of a link in a reply; apart from the widget, whose import waits for the first reply."""

from __future__ import annotations

from textual.message import Message


class LinkShown(Message):
    """A link was clicked; `address` is inert text."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()
