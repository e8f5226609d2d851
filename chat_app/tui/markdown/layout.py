"""Blocks as lines of a width. Each keeps what it has read: to grow or to change its width costs no more."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from rich.cells import cell_len
from textual.content import Content

from chat_app.text.markdown import Block
from chat_app.tui.markdown.code import LONGEST_STRETCH, fold_ends, highlight, language_of, stretch_end
from chat_app.tui.markdown.inline import piece_end, read_inline
from chat_app.tui.markdown.table import Table

MIN_WIDTH = 8
PROSE_WIDTH = 100  # longer lines are hard to read; code and tables take all there is
FOLDED = "↪ "  # before the rest of a line of code that is wider than the screen
CODE_PADDING = 1
TAB = 4


class Line(NamedTuple):
    """One line on the screen: what stands before it, and its own words, which are the characters from `start`
    of the block's logical line `logical`. `fill`: the style that reaches to the right edge."""

    before: str
    body: Content
    logical: int
    start: int
    fill: str = ""


class Place(NamedTuple):
    """A place in the words that another width does not move: a block, its logical line, a character of that.
    A table's logical lines are those on the screen."""

    block: int
    logical: int
    start: int


class Drawn(Protocol):
    """A block as it was drawn for one width."""

    def grow(self, block: Block) -> None:
        """Draw the block, which is the one drawn before with more in it."""

    def refit(self, width: int) -> None:
        """Wrap for another width; nothing is read anew."""

    @property
    def height(self) -> int:
        """Lines on the screen."""

    def line(self, number: int) -> Line:
        """A line on the screen, by its number within the block."""

    def begin(self, number: int) -> tuple[int, int]:
        """The logical line and the character with which a line begins; nothing is drawn for it."""

    @property
    def words(self) -> list[str]:
        """Its logical lines, as they are copied."""


class Prose:
    """A paragraph or a heading: its text in pieces (see `inline`), wrapped on from its last line.

    read: makes of a piece what is shown."""

    def __init__(
        self, block: Block, width: int, style: str = "", read: Callable[[str], Content] = read_inline
    ) -> None:
        self._first, self._rest = block.first, block.rest
        self._style, self._read_piece = style, read
        self._read = 0  # characters of the text in pieces that are finished
        self._pieces: list[Content] = []  # finished ones
        self._unfinished = Content("")
        self.refit(width)
        self.grow(block)

    def grow(self, block: Block) -> None:
        """Wrap what is new; the piece that is not finished is drawn anew each time."""
        text = block.text
        while (end := piece_end(text, self._read)) is not None:
            self._pieces.append(self._read_piece(text[self._read : end]))
            self._lines += self._flow(self._pieces[-1])
            self._read = end
        self._unfinished = self._read_piece(text[self._read :])
        self._flow_unfinished()

    def refit(self, width: int) -> None:
        """Wrap for another width; nothing is read anew."""
        self._width = max(MIN_WIDTH, min(width, PROSE_WIDTH) - len(self._rest))
        self._lines: list[Line] = []  # of finished pieces
        self._tail = Content("")  # of the finished pieces, what the next words may still stand beside
        self._tail_start = self._logical = 0
        self._logical_lines: list[str] = [""]
        for piece in self._pieces:
            self._lines += self._flow(piece)
        self._flow_unfinished()

    def _flow_unfinished(self) -> None:
        """Wrap the piece that may still change, and leave what stands before it as it is."""
        kept = self._tail, self._tail_start, self._logical, len(self._logical_lines), self._logical_lines[-1]
        self._open = self._flow(self._unfinished, last=True)
        self._open_words = self._logical_lines[kept[3] - 1 :]
        self._tail, self._tail_start, self._logical, count, words = kept
        del self._logical_lines[count:]
        self._logical_lines[-1] = words

    def _flow(self, content: Content, *, last: bool = False) -> list[Line]:
        """Wrap `content` behind the tail. What may be added to becomes the tail, or with `last` a line."""
        lines: list[Line] = []
        pieces = content.split("\n", allow_blank=True) or [content]
        for place, piece in enumerate(pieces):
            if place:
                self._logical += 1
                self._logical_lines.append("")
                self._tail, self._tail_start = Content(""), 0
            self._logical_lines[-1] += piece.plain
            whole = self._tail + (piece.stylize(self._style) if self._style else piece)
            ends = last or place < len(pieces) - 1
            begin = 0
            wrapped = whole.wrap(self._width) or [whole]
            for number, one in enumerate(wrapped):
                begin = whole.plain.find(one.plain, begin)
                if number < len(wrapped) - 1 or ends:
                    lines.append(self._line(one, self._tail_start + begin, len(lines)))
                    begin += len(one.plain)
            if not ends:
                self._tail, self._tail_start = whole[begin:], self._tail_start + begin
        return lines

    def _line(self, body: Content, start: int, ahead: int) -> Line:
        is_first = not self._lines and not ahead
        return Line(self._first if is_first else self._rest, body, self._logical, start)

    @property
    def height(self) -> int:
        """Lines on the screen, those of the unfinished piece included."""
        return len(self._lines) + len(self._open)

    def line(self, number: int) -> Line:
        """A line on the screen, by its number within the block."""
        finished = len(self._lines)
        return self._lines[number] if number < finished else self._open[number - finished]

    def begin(self, number: int) -> tuple[int, int]:
        """The logical line and the character with which a line begins."""
        line = self.line(number)
        return line.logical, line.start

    @property
    def words(self) -> list[str]:
        """The paragraph's own lines, as they are copied: without the breaks of wrapping."""
        return [*self._logical_lines[:-1], *self._open_words]


class Code:
    """A fenced or indented block: a line that names it, and its lines, folded where they are too wide.

    A line's colours are read when it first comes in sight, with all lines above it that have none yet.
    """

    FILL = ".code-block"

    def __init__(self, block: Block, width: int, number: int, *, ansi: bool) -> None:
        self._first, self._rest = block.first, block.rest
        self._language = language_of(block.info)
        self._ansi = ansi
        self._source: list[str] = []
        title = f"{self._language} · {number}" if self._language else str(number)
        self._title = Line(self._first, Content(f" {title}").stylize(".code-title"), 0, 0, self.FILL)
        self._coloured: list[Content] = []  # lines of stretches that are finished, then those of the open one
        self._read = 0  # lines of the source in stretches that are finished
        self.refit(width)
        self.grow(block)

    def grow(self, block: Block) -> None:
        """Fold what is new; the last line may have grown. The open stretch is coloured anew when seen."""
        first = max(0, len(self._source) - 1)
        self._source = list(block.lines)
        del self._coloured[self._read :]
        del self._parts[bisect_left(self._parts, (first, 0, 0)) :]
        self._fold(first)

    def refit(self, width: int) -> None:
        """Fold for another width; nothing is coloured anew."""
        self._width = max(MIN_WIDTH, width - len(self._rest) - 2 * CODE_PADDING)
        self._parts: list[tuple[int, int, int]] = []  # (line of the source, first character, end)
        self._fold(0)

    def _fold(self, first: int) -> None:
        """Where the lines of the source from `first` on are folded."""
        for number, source in enumerate(self._source[first:], first):
            line = source.expandtabs(TAB)
            if cell_len(line) <= self._width:
                self._parts.append((number, 0, len(line)))
                continue
            start = 0
            for end in fold_ends(line, self._width - len(FOLDED)):
                self._parts.append((number, start, end))
                start = end

    def _coloured_line(self, number: int) -> Content:
        """A line of the source in its colours."""
        while number >= len(self._coloured):
            window = self._source[self._read : self._read + LONGEST_STRETCH + 2]
            shown, fresh = highlight(window, self._language, ansi=self._ansi)
            del self._coloured[self._read :]
            # The last line may still grow, so it decides nothing.
            end = stretch_end(window[:-1], fresh)
            self._coloured += [line.expand_tabs(TAB) for line in (shown if end is None else shown[:end])]
            if end is None:
                break  # all that there is
            self._read += end
        return self._coloured[number]

    @property
    def height(self) -> int:
        """Lines on the screen: the title, and the lines as they are folded."""
        return 1 + len(self._parts)

    def line(self, number: int) -> Line:
        """A line on the screen, by its number within the block; 0 is the title."""
        if number == 0:
            return self._title
        logical, start, end = self._parts[number - 1]
        before = self._rest + " " * CODE_PADDING + (FOLDED if start else "")
        return Line(before, self._coloured_line(logical)[start:end], logical + 1, start, self.FILL)

    def begin(self, number: int) -> tuple[int, int]:
        """The logical line and the character with which a line begins; no colour is read for it."""
        if number == 0:
            return 0, 0
        logical, start, _ = self._parts[number - 1]
        return logical + 1, start

    @property
    def words(self) -> list[str]:
        """The source, its tabs expanded, below an empty line for the title."""
        return ["", *(line.expandtabs(TAB) for line in self._source)]


class Rows:
    """A table."""

    def __init__(self, block: Block, width: int) -> None:
        self._first, self._rest = block.first, block.rest
        self._table = Table(block.aligns)
        self.refit(width)
        self.grow(block)

    def grow(self, block: Block) -> None:
        """Lay out the new rows; a cell that widens its column lays out the others anew."""
        self._table.set_rows(block.lines)

    def refit(self, width: int) -> None:
        """Share out another width among the columns."""
        self._table.set_width(max(MIN_WIDTH, width - len(self._rest)))

    @property
    def height(self) -> int:
        """Lines on the screen, the rule below the head included."""
        return self._table.height

    def line(self, number: int) -> Line:
        """A line on the screen, by its number within the block."""
        return Line(self._rest if number else self._first, self._table.line(number), number, 0)

    def begin(self, number: int) -> tuple[int, int]:
        """Each line on the screen is a logical one."""
        return number, 0

    @property
    def words(self) -> list[str]:
        """The rows as they are drawn."""
        return [self._table.line(number).plain for number in range(self.height)]


class Rule:
    """A line across the block's width; nothing of it is copied."""

    def __init__(self, block: Block, width: int) -> None:
        self._first, self._rest = block.first, block.rest
        self.refit(width)

    def grow(self, block: Block) -> None:
        """There is nothing to add to it."""

    def refit(self, width: int) -> None:
        """As long as there is room."""
        self._body = Content("─" * max(1, width - len(self._rest))).stylize(".rule")

    height = 1
    words: list[str] = []  # noqa: RUF012 - nothing to copy

    def line(self, number: int) -> Line:
        """The one line there is."""
        return Line(self._first, self._body, 0, 0)

    def begin(self, number: int) -> tuple[int, int]:
        """There is one line."""
        return 0, 0


class Layout:
    """All blocks for a width: which block a line of the screen is in, and where in what is copied."""

    def __init__(self, width: int, *, ansi: bool) -> None:
        self.width = width
        self._ansi = ansi
        self._blocks: list[Block] = []
        self._drawn: list[Drawn] = []
        self._tops: list[int] = []  # first line of each block, its gap included
        self._logical: list[int] = []  # first logical line of each block
        self._n_code: list[int] = []  # blocks of code before each block
        self.height = 0

    def update(self, blocks: Sequence[Block], changed: int) -> int:
        """Draw the blocks from the index `changed` on; returns the first line that may look different."""
        first = self._tops[changed] if changed < len(self._tops) else self.height
        for index, block in enumerate(blocks[changed:], changed):
            if index < len(self._drawn) and _is_growth(self._blocks[index], block):
                self._drawn[index].grow(block)
                self._blocks[index] = _frozen(block)
                continue
            n_code = self._n_code[index - 1] + _is_code(self._blocks[index - 1]) if index else 0
            del self._drawn[index:], self._blocks[index:], self._n_code[index:]
            self._drawn.append(self._draw(block, n_code + 1))
            self._blocks.append(_frozen(block))
            self._n_code.append(n_code)
        del self._drawn[len(blocks) :], self._blocks[len(blocks) :], self._n_code[len(blocks) :]
        self._place(changed)
        return first

    @property
    def code_lines(self) -> list[int]:
        """The first line of each block of code."""
        return [
            top + (block.gap is not None)
            for top, block in zip(self._tops, self._blocks, strict=True)
            if _is_code(block)
        ]

    def refit(self, width: int) -> None:
        """All blocks for another width; nothing is read anew."""
        self.width = width
        for drawn in self._drawn:
            drawn.refit(width)
        self._place(0)

    def _draw(self, block: Block, number: int) -> Drawn:
        if block.kind == "code":
            return Code(block, self.width, number, ansi=self._ansi)
        if block.kind == "table":
            return Rows(block, self.width)
        if block.kind == "rule":
            return Rule(block, self.width)
        if block.kind == "plain":
            return Prose(block, self.width, read=Content)
        return Prose(block, self.width, f".h{min(block.level, 4)}" if block.kind == "heading" else "")

    def _place(self, changed: int) -> None:
        """The tops of the blocks from `changed` on."""
        del self._tops[changed:], self._logical[changed:]
        for index in range(changed, len(self._drawn)):
            top = logical = 0
            if index:
                above = self._drawn[index - 1]
                top = self._tops[-1] + (self._blocks[index - 1].gap is not None) + above.height
                logical = self._logical[-1] + self._n_logical(index - 1)
            self._tops.append(top)
            self._logical.append(logical)
        if self._drawn:
            self.height = self._tops[-1] + (self._blocks[-1].gap is not None) + self._drawn[-1].height
        else:
            self.height = 0

    def _n_logical(self, index: int) -> int:
        """Logical lines of a block, the blank one above it included."""
        drawn = self._drawn[index]
        own = drawn.begin(drawn.height - 1)[0] + 1 if drawn.height else 0
        return own + (self._blocks[index].gap is not None)

    def line(self, number: int) -> Line:
        """Line `number` of the whole."""
        index = bisect_right(self._tops, number) - 1
        inside = number - self._tops[index]
        gap = self._blocks[index].gap
        if gap is not None:
            if inside == 0:
                return Line(gap, Content(""), self._logical[index], 0)
            inside -= 1
        line = self._drawn[index].line(inside)
        return line._replace(logical=line.logical + self._logical[index] + (gap is not None))

    def place_of(self, number: int) -> Place:
        """The place at which line `number` begins."""
        index = max(0, bisect_right(self._tops, number) - 1)
        inside = number - self._tops[index] - (self._blocks[index].gap is not None)
        return Place(index, *self._drawn[index].begin(max(0, inside)))

    def line_at(self, place: Place) -> int:
        """The line in which a place stands, at this width."""
        drawn = self._drawn[place.block]
        inside = bisect_right(range(drawn.height), place[1:], key=drawn.begin) - 1
        return self._tops[place.block] + (self._blocks[place.block].gap is not None) + max(0, inside)

    def line_of(self, logical: int, start: int) -> int:
        """The line in which a character of a logical line of the whole stands (see `words`)."""
        index = max(0, bisect_right(self._logical, logical) - 1)
        inside = logical - self._logical[index] - (self._blocks[index].gap is not None)
        return self.line_at(Place(index, max(0, inside), start))

    @property
    def words(self) -> list[str]:
        """All logical lines, as they are copied."""
        found: list[str] = []
        for block, drawn in zip(self._blocks, self._drawn, strict=True):
            if block.gap is not None:
                found.append("")
            words = drawn.words
            rows = drawn.begin(drawn.height - 1)[0] + 1 if drawn.height else 0
            found += [*words, *([""] * (rows - len(words)))][:rows]
        return found


def _is_code(block: Block) -> int:
    return int(block.kind == "code")


def _shape(block: Block) -> tuple[object, ...]:
    return block.kind, block.first, block.rest, block.gap, block.level, block.info, block.aligns


def _is_growth(old: Block, new: Block) -> bool:
    """Whether `new` is `old` with more behind it."""
    if _shape(old) != _shape(new) or len(new.lines) < len(old.lines):
        return False
    if not old.lines:
        return True
    last = len(old.lines) - 1
    return new.lines[last].startswith(old.lines[last]) and new.lines[:last] == old.lines[:last]


def _frozen(block: Block) -> Block:
    """As it was drawn: the document goes on with its own."""
    return replace(block, lines=list(block.lines))
