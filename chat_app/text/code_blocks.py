"""The fenced code blocks of a reply."""

from __future__ import annotations


def code_blocks(markdown: str) -> list[str]:
    """The contents of the blocks; an open fence at the end counts."""
    blocks: list[str] = []
    lines: list[str] = []
    fence = ""
    for line in markdown.splitlines():
        mark = line.lstrip()
        if not fence and mark.startswith(("```", "~~~")):
            fence, lines = mark[: len(mark) - len(mark.lstrip(mark[0]))], []
        elif fence and mark.startswith(fence) and not mark.strip(fence[0] + " "):
            blocks.append("\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line)
    return [*blocks, "\n".join(lines)] if fence else blocks
