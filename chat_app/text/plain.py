"""A text without marks as the blocks that are drawn: what a user wrote is shown as it was typed."""

from __future__ import annotations

from chat_app.text.markdown import Block

TAB = 4


class PlainDocument:
    """`write` text as it comes; `blocks` is one block with its lines (see `markdown.Document`)."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._source: list[str] = []

    @property
    def source(self) -> str:
        """All text written so far."""
        return "".join(self._source)

    def write(self, text: str) -> int:
        """Take more text; returns the index of the first block that may have changed."""
        if not text:
            return len(self.blocks)
        self._source.append(text)
        if not self.blocks:
            self.blocks.append(Block("plain", "", "", None, [""]))
        lines = self.blocks[0].lines
        first, *more = text.split("\n")
        lines[-1] = (lines[-1] + first).expandtabs(TAB)
        lines += (line.expandtabs(TAB) for line in more)
        return 0
