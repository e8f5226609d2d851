"""The table of `models list`: as many of its columns as a terminal has room for, all of them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from chat_app.models.listing import Listed
from chat_app.text.sanitize import clean_line

MAX_CELL = 1000
GAP = "  "
HEAD = ("MODEL", "KIND", "FILE", "RUNS", "MEMORY", "SPEED", "500 TOKENS", "FROM", "PATH")
RIGHT = ("FILE", "MEMORY")  # numbers with their units
# What is left out first where there is no room; the last column that stays is cut.
LEAST_FIRST = ("PATH", "FROM", "KIND", "FILE", "500 TOKENS", "MEMORY")


def table_lines(models: Sequence[Listed], width: int | None) -> list[str]:
    """A line for the head and one for each model, of at most `width` cells; None: as long as they are."""
    rows = [HEAD, *(tuple(clean_line(cell, MAX_CELL) for cell in _cells(model)) for model in models)]
    columns = [i for i in range(len(HEAD)) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    for name in LEAST_FIRST:
        at = HEAD.index(name)
        # A column of sentences may be cut, as long as it tells something.
        least = sum(min(widths[i], 30) if HEAD[i] == "FROM" else widths[i] + len(GAP) for i in columns)
        if width is not None and least > width and at in columns:
            columns.remove(at)
    lines = []
    for row in rows:
        cells = [_padded(row[i], widths[i], right=HEAD[i] in RIGHT) for i in columns]
        line = GAP.join(cells).rstrip()
        lines.append(line if width is None or len(line) <= width else line[: width - 1] + "…")
    return lines


def _cells(model: Listed) -> tuple[str, ...]:
    outlook = model.outlook
    return (
        model.name,
        model.kind,
        f"{model.nbytes / 2**20:,.0f} MiB",
        model.verdict,
        outlook.memory,
        outlook.speed,
        outlook.first_token,
        model.about,
        "" if model.path is None else str(model.path),
    )


def _padded(cell: str, width: int, *, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
