"""The code blocks of a reply, by the numbers that stand above them on the screen."""

from __future__ import annotations

from chat_app.text.markdown import Document
from chat_app.text.sanitize import clean


def code_blocks(markdown: str) -> list[str]:
    """What stands in each, without fences and signs of quotes or lists; one that is still open counts."""
    document = Document()
    document.write(clean(markdown))
    return [block.text for block in document.blocks if block.kind == "code"]
