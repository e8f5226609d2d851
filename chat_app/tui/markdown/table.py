"""A table's rows as lines: columns as wide as what is in them, cells wrapped where there is not the room."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from textual.content import Content

from chat_app.text.markdown import split_row
from chat_app.tui.markdown.inline import read_inline

BORDER, CROSS = " │ ", "─┼─"
MIN_COLUMN = 3
STEP = 4  # columns grow by so many cells, so that a row that is being written seldom moves all others


class Table:
    """`aligns` of each column. The first row is the header."""

    def __init__(self, aligns: Sequence[str]) -> None:
        self._aligns = aligns
        self._room = 0
        self._rows: list[list[Content]] = []
        self._natural: list[int] = [0] * len(aligns)  # of all rows but the last, which may still change
        self._widths: list[int] = []
        self._heights: list[int] = []
        self._tops: list[int] = []
        self.height = 0

    def set_rows(self, sources: Sequence[str]) -> None:
        """The rows there are now: those before, the last of them perhaps changed, and more."""
        keep = max(0, len(self._rows) - 1)
        del self._rows[keep:], self._heights[keep:], self._tops[keep:]
        for source in sources[keep:]:
            cells = [read_inline(cell) for cell in split_row(source)[: len(self._aligns)]]
            self._rows.append(cells + [Content("")] * (len(self._aligns) - len(cells)))
        for row in self._rows[keep:-1]:
            self._natural = self._widened(row)
        self._lay_out()

    def set_width(self, width: int) -> None:
        """Lay out the rows in so many cells."""
        self._room = width - len(BORDER) * (len(self._aligns) - 1)
        self._lay_out()

    def _lay_out(self) -> None:
        widths = self._fit(self._widened(self._rows[-1]) if self._rows else self._natural)
        if widths != self._widths:
            self._widths = widths
            self._heights.clear()
            self._tops.clear()
        self._measure()

    def _widened(self, row: Sequence[Content]) -> list[int]:
        return [max(old, cell.cell_length) for old, cell in zip(self._natural, row, strict=True)]

    def _fit(self, natural: Sequence[int]) -> list[int]:
        """Columns of their natural width, or of what is left where those are too wide together."""
        wanted = [max(MIN_COLUMN, -(-width // STEP) * STEP) for width in natural]
        if sum(wanted) <= self._room:
            return wanted
        wanted = [max(MIN_COLUMN, width) for width in natural]
        room, open_columns = self._room, sorted(range(len(wanted)), key=lambda column: wanted[column])
        widths = [0] * len(wanted)
        for place, column in enumerate(open_columns):
            share = max(MIN_COLUMN, room // (len(open_columns) - place))
            widths[column] = min(wanted[column], share)
            room -= widths[column]
        return widths

    def _measure(self) -> None:
        """The heights of the rows that have none yet."""
        for row in self._rows[len(self._heights) :]:
            height = max(
                (
                    1 if cell.cell_length <= width else len(cell.wrap(width))
                    for cell, width in zip(row, self._widths, strict=True)
                ),
                default=1,
            )
            top = self._tops[-1] + self._heights[-1] if self._tops else 0
            if len(self._tops) == 1:
                top += 1  # below the header stands a line
            self._tops.append(top)
            self._heights.append(height)
        self.height = self._tops[-1] + self._heights[-1] + (len(self._rows) == 1) if self._rows else 0

    def line(self, number: int) -> Content:
        """Line `number` on the screen."""
        header = self._heights[0]
        if number == header:
            return Content(CROSS.join("─" * width for width in self._widths)).stylize(".rule")
        row = 0
        if number > header:
            row = bisect_right(self._tops, number) - 1
        inside = number - self._tops[row]
        parts: list[Content] = []
        for cell, width, align in zip(self._rows[row], self._widths, self._aligns, strict=True):
            lines = [cell] if cell.cell_length <= width else cell.wrap(width)
            text = lines[inside] if inside < len(lines) else Content("")
            parts.append(_aligned(text.truncate(width), width, align))
        line = Content(BORDER).stylize(".rule").join(parts)
        return line.stylize(".table-head") if row == 0 else line


def _aligned(text: Content, width: int, align: str) -> Content:
    gap = max(0, width - text.cell_length)
    left = gap if align == "right" else gap // 2 if align == "center" else 0
    return text.pad_left(left).pad_right(gap - left)
