"""What the laboratory shows in a terminal: a row as it is done, and the table of a whole run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_core.profiling.lab.experiment import Row
    from llama_core.profiling.lab.records import Record

# From here on a table row fits into one line with room for names.
_WIDE = 100
_NARROWEST = 40
_USUAL_MATCH = len("within 5e-08 of the largest value")
# A pipe or file has no width: nothing is folded there unless COLUMNS says so.
_NO_LIMIT = 10_000


def columns() -> int:
    """The width to write for: COLUMNS, else the terminal's, else as wide as the text."""
    return max(_NARROWEST, shutil.get_terminal_size((_NO_LIMIT, 24)).columns)


def fold(text: str, width: int, indent: int) -> str:
    """`text` in lines of at most `width`, the first indented, the others by four more."""
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
        break_on_hyphens=False,
    )


def row_text(row: Row, width: int) -> str:
    """A row with all that was measured, as it is shown when it is done."""
    from llama_core.profiling.lab.report import interval, outputs, reason, sides

    if row.ratio is None:
        return fold(f"{row.name}: {row.verdict} ({row.note})", width, 2)
    before, after = sides(row, spread=False)
    text = f"{row.name}: {before} -> {after}, {interval(row)}; "
    lines = [fold(f"{text}claim {row.claim}: {row.verdict}; outputs {outputs(row)}", width, 2)]
    why = reason(row)
    return "\n".join([*lines, fold(f"why: {why}", width, 6)] if why else lines)


HEADER = ("row", "ratio (95 % interval)", "verdict", "outputs match")


def run_table(records: Sequence[Record], width: int) -> str:
    """Every row of a run with its ratio, interval, verdict and how closely the outputs match.

    A line a row where `width` has room for it, else the name above the rest.
    """
    cells = [row_cells(row) for record in records for row in record.rows]
    widths = [max(len(row[i]) for row in [HEADER, *cells]) for i in range(len(HEADER))]
    one_line = width >= _WIDE
    if one_line:
        # The two texts share what the numbers leave: the usual words about outputs stay on one line, then
        # as many names as possible.
        free = width - widths[1] - widths[2] - 2 - 3 * 2
        widths[0] = min(widths[0], max(free - _USUAL_MATCH, free // 2))
        widths[3] = min(widths[3], free - widths[0])
    lines = [*line(HEADER, widths)] if one_line else []
    for record in records:
        lines.append(textwrap.shorten(f"{record.number}. {record.title}", width, placeholder=" ..."))
        for row in record.rows:
            if one_line:
                lines += line(row_cells(row), widths)
            else:
                name, *rest = row_cells(row)
                lines.append(fold(name, width, 2))
                lines.append(fold(stacked(row, rest), width, 6))
    return "\n".join(lines) + "\n"


def stacked(row: Row, cells: Sequence[str]) -> str:
    """A row's cells as one sentence, for a terminal too narrow for the table."""
    ratio, verdict, match = cells
    if row.ratio is None:
        return f"{verdict}: {match}"
    return f"{ratio}, {verdict}; " + (f"outputs match: {match}" if row.match and row.match.ok else match)


def row_cells(row: Row) -> tuple[str, str, str, str]:
    """Name, ratio with its interval, verdict, and whether both sides gave the same."""
    from llama_core.profiling.lab.report import interval

    if row.match is None:
        return row.name, "", row.verdict, row.note
    how = row.match.text if row.match.ok else f"outputs DIFFER: {row.match.text}"
    return row.name, interval(row), row.verdict, how


def line(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """One row of the table; a cell that is too long goes on below itself."""
    folded = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    for i in range(max(map(len, folded))):
        parts = [part[i] if i < len(part) else "" for part in folded]
        padded = (part.ljust(width) for part, width in zip(parts, widths, strict=True))
        yield ("  " + "  ".join(padded)).rstrip()
