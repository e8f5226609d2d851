"""Markdown into blocks, one line of text at a time. A block never looks back further than itself.

Quotes and list items are no blocks of their own: each leaf (a paragraph, some code, a table) carries what
stands before its lines. So a list of a thousand items is a thousand paragraphs, and the next one is as cheap
as the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from chat_app.text.sanitize import clean

Kind = Literal["paragraph", "heading", "code", "table", "rule", "plain"]

BULLETS = ("•", "▪", "‣", "◦")
QUOTE_BAR = "▌ "
TASKS = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}

_QUOTE = re.compile(r" {0,3}> ?")
_ITEM = re.compile(r"( {0,3})([-+*]|(\d{1,9})[.)])( +|$)")
_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})\s*([^`]*)$")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_DELIMITERS = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """A quote (no marker) or a list item: what stands before its first line, and how far it is indented."""

    marker: str = ""
    indent: int = 0

    @property
    def is_item(self) -> bool:
        """Whether this is a list item; else it is a quote."""
        return bool(self.marker)


@dataclass(slots=True, eq=False)
class Block:
    """A leaf. `first` stands before its first line, `rest` before the others; `gap` before a blank line above
    it (None: no such line).

    lines: the text, without what stands before it; of a table the rows with their header, without the line
    of dashes. level: of a heading, from 1. info: behind a fence. aligns: of a table's columns.
    """

    kind: Kind
    first: str
    rest: str
    gap: str | None
    lines: list[str] = field(default_factory=list)
    level: int = 0
    info: str = ""
    aligns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)


@dataclass(slots=True)
class _Fence:
    mark: str
    indent: int


@dataclass(slots=True)
class _State:
    """Where the parser stands between two lines. Small, and copied for a line that is not whole yet."""

    stack: tuple[Container, ...] = ()
    shown: int = 0  # so many of them have had their marker drawn
    open: bool = False  # the last block takes more lines
    fence: _Fence | None = None
    blank: bool = False  # a blank line stands before what comes
    above: tuple[Container, ...] = ()  # of the last block
    has_blocks: bool = False


class Document:
    """`write` text as it comes; `blocks` is what it amounts to so far, its unfinished last line included."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._state = _State()
        self._partial = ""
        self._kept = 0  # blocks that whole lines have made
        self._last: tuple[Block, int] | None = None  # the last of them, and its lines, as whole lines left it
        self._source: list[str] = []

    @property
    def source(self) -> str:
        """All text written so far."""
        return "".join(self._source)

    def write(self, text: str) -> int:
        """Take more text; returns the index of the first block that may have changed."""
        self._source.append(text)
        changed = self._forget_partial()
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            self._line(line.removesuffix("\r"))
            self._keep()
        if self._partial:
            state = self._state
            self._state = replace(state)
            self._line(self._partial)
            self._state = state
        return changed

    def _keep(self) -> None:
        self._kept = len(self.blocks)
        self._last = (self.blocks[-1], len(self.blocks[-1].lines)) if self.blocks else None

    def _forget_partial(self) -> int:
        """Undo what the unfinished line did: it is read again with what has come."""
        if self._last is not None:
            block, n_lines = self._last
            self.blocks[self._kept - 1] = block
            del block.lines[n_lines:]
        del self.blocks[self._kept :]
        return max(0, self._kept - 1)

    # One line.

    def _line(self, line: str) -> None:
        state = self._state
        rest = self._without_tabs(line) if "\t" in line else line
        depth, rest = self._matched(rest)
        if state.fence is not None:
            if depth == len(state.stack):
                self._code_line(rest)
                return
            self._close()
        if not rest.strip():
            self._blank_line(depth)
            return
        began = self._begin_containers(depth, rest)
        if began is not None:
            rest = began
            if not rest.strip():
                self._add("paragraph")  # an item that has its marker so far
                return
        elif depth < len(state.stack) and not self._goes_on_lazily(rest):
            self._leave(depth)
        self._leaf(rest)

    def _without_tabs(self, line: str) -> str:
        """Tabs as blanks; in fenced code they stay, but for those that indent a quote's or an item's line."""
        if self._state.fence is None:
            return line.expandtabs(4)
        head = len(line) - len(line.lstrip(" \t")) if self._state.stack else 0
        return line[:head].expandtabs(4) + line[head:]

    def _matched(self, rest: str) -> tuple[int, str]:
        """How many of the open containers the line goes on with, and what is left of it."""
        for depth, container in enumerate(self._state.stack):
            if container.is_item:
                indent = len(rest) - len(rest.lstrip(" "))
                if indent >= container.indent or not rest.strip():
                    rest = rest[container.indent :]
                    continue
            elif found := _QUOTE.match(rest):
                rest = rest[found.end() :]
                continue
            return depth, rest
        return len(self._state.stack), rest

    def _blank_line(self, depth: int) -> None:
        state = self._state
        state.blank = True
        if state.open and not (state.fence is None and self.blocks[-1].kind == "code"):
            self._close()
        if any(not container.is_item for container in state.stack[depth:]):
            self._leave(depth)  # a quote ends with a line that has no sign of it

    def _begin_containers(self, depth: int, rest: str) -> str | None:
        """Open the quotes and items that begin here; what is left of the line, or None where none begins."""
        state = self._state
        began = False
        while True:
            if (found := _QUOTE.match(rest)) is not None and (began or not self._is_indented(rest)):
                container = Container()
                rest = rest[found.end() :]
            elif (item := self._item(rest, depth, began)) is not None:
                container, rest = item
            else:
                return rest if began else None
            if not began:
                began = True
                self._leave(depth)
            state.stack = (*state.stack, container)

    def _item(self, rest: str, depth: int, began: bool) -> tuple[Container, str] | None:
        found = _ITEM.match(rest)
        if found is None or _RULE.match(rest):
            return None
        interrupts = self._in_paragraph and depth == len(self._state.stack) and not began
        if interrupts and (found[3] not in (None, "1") or not found[4]):
            return None  # a number in a sentence, a dash at a line's end
        blanks = len(found[4])
        text = rest[found.end() :]
        if blanks > 4 or not text:
            text = rest[found.end(2) + 1 :] if blanks else text
            blanks = 1
        level = sum(one.is_item for one in (self._state.stack if began else self._state.stack[:depth]))
        marker = f"{found[3]}. " if found[3] else BULLETS[level % len(BULLETS)] + " "
        if text[:4] in TASKS:
            marker, text = TASKS[text[:4]], text[4:]
        return Container(marker, len(found[1]) + len(found[2]) + blanks), text

    def _is_indented(self, rest: str) -> bool:
        return rest.startswith("    ")

    @property
    def _in_paragraph(self) -> bool:
        return self._state.open and self.blocks[-1].kind == "paragraph"

    def _goes_on_lazily(self, rest: str) -> bool:
        """Whether a line without its container's signs goes on with the paragraph in it."""
        if not self._in_paragraph or not self.blocks[-1].lines:
            return False
        return not (_FENCE.match(rest) or _HEADING.match(rest) or _RULE.match(rest))

    def _leaf(self, rest: str) -> None:
        state = self._state
        if self._in_paragraph and self._ends_as_other(rest):
            return
        if found := _FENCE.match(rest):
            self._add("code", info=found[3].strip())
            state.fence = _Fence(found[2], len(found[1]))
        elif found := _HEADING.match(rest):
            self._add("heading", level=len(found[1]), lines=[found[2] or ""])
            self._close()
        elif _RULE.match(rest):
            self._add("rule")
            self._close()
        elif state.open and self.blocks[-1].kind == "table":
            self.blocks[-1].lines.append(rest)
        elif state.open and self.blocks[-1].kind == "code":
            self._indented_code(rest)
        elif self._in_paragraph:
            self.blocks[-1].lines.append(rest.strip() if not rest.endswith("  ") else rest.lstrip())
            state.blank = False
        elif self._is_indented(rest):
            self._add("code", lines=[rest[4:]])
        else:
            self._add("paragraph", lines=[rest.strip()])

    def _ends_as_other(self, rest: str) -> bool:
        """A line that makes of the paragraph above it a heading, or the head of a table."""
        block = self.blocks[-1]
        if not block.lines:
            return False
        if (found := _UNDERLINE.match(rest)) is not None:
            self._replace("heading", level=1 if found[1][0] == "=" else 2, lines=[block.text])
            self._close()
            return True
        if "|" in block.lines[-1] and _DELIMITERS.match(rest):
            cells = split_row(rest)
            if len(cells) == len(split_row(block.lines[-1])):
                head = block.lines[-1]
                if len(block.lines) > 1:
                    self._replace("paragraph", lines=block.lines[:-1])
                    self._add("table", lines=[head], aligns=tuple(map(_align, cells)), gap=True)
                else:
                    self._replace("table", lines=[head], aligns=tuple(map(_align, cells)))
                return True
        return False

    def _code_line(self, rest: str) -> None:
        fence = self._state.fence
        assert fence is not None
        mark = rest.strip()
        if not self._is_indented(rest) and mark.startswith(fence.mark) and not mark.strip(fence.mark[0]):
            self._close()
            return
        indent = min(fence.indent, len(rest) - len(rest.lstrip(" ")))
        self.blocks[-1].lines.append(rest[indent:])

    def _indented_code(self, rest: str) -> None:
        state = self._state
        if self._is_indented(rest):
            if state.blank:
                self.blocks[-1].lines.append("")
                state.blank = False
            self.blocks[-1].lines.append(rest[4:])
        else:
            self._close()
            self._leaf(rest)

    # Blocks.

    def _add(
        self,
        kind: Kind,
        *,
        lines: list[str] | None = None,
        level: int = 0,
        info: str = "",
        aligns: tuple[str, ...] = (),
        gap: bool = False,
    ) -> None:
        state = self._state
        first = "".join(
            _beside(one) if place < state.shown or not one.is_item else one.marker
            for place, one in enumerate(state.stack)
        )
        rest = "".join(map(_beside, state.stack))
        above = self._gap(kind) if state.has_blocks or gap else None
        self.blocks.append(Block(kind, first, rest, above, lines or [], level, info, aligns))
        state.shown, state.open, state.blank = len(state.stack), True, False
        state.above, state.has_blocks = state.stack, True

    def _gap(self, kind: Kind) -> str | None:
        """What stands in the blank line above the next block; None where there is none."""
        state, last = self._state, self.blocks[-1]
        in_list = any(one.is_item for one in state.stack)
        was_in_list = any(one.is_item for one in state.above)
        tight = kind == last.kind == "paragraph" and in_list == was_in_list
        if tight and not state.blank and state.stack:
            return None
        common = 0
        for one, other in zip(state.stack, state.above, strict=False):
            if one is not other:
                break
            common += 1
        return "".join(map(_beside, state.stack[:common])).rstrip()

    def _replace(self, kind: Kind, **given: object) -> None:
        """Another block in the last one's place. The old one stays as it was: a line may be read again."""
        old = self.blocks.pop()
        block = Block(kind, old.first, old.rest, old.gap)
        for name, value in given.items():
            setattr(block, name, value)
        self.blocks.append(block)

    def _close(self) -> None:
        self._state.open, self._state.fence = False, None

    def _leave(self, depth: int) -> None:
        """Close what is open below the container `depth`."""
        state = self._state
        self._close()
        state.stack = state.stack[:depth]
        state.shown = min(state.shown, depth)


def _beside(container: Container) -> str:
    """What stands before a line of it that is not its first."""
    return " " * len(container.marker) if container.is_item else QUOTE_BAR


def split_row(row: str) -> list[str]:
    """The cells of a table's row; `\\|` is no border."""
    row = row.strip()
    row = row.removeprefix("|")
    if row.endswith("|") and not row.endswith("\\|"):
        row = row[:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)]


def _align(cell: str) -> str:
    left, right = cell.startswith(":"), cell.endswith(":")
    return "center" if left and right else "right" if right else "left"


def code_blocks(markdown: str) -> list[str]:
    """What stands in each code block, by the numbers that stand above them on the screen, without fences and
    signs of quotes or lists. One that is still open counts."""
    document = Document()
    document.write(clean(markdown))
    return [block.text for block in document.blocks if block.kind == "code"]
