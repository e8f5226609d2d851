"""Numbers, durations and tables as every report writes them: three digits that count, never an exponent."""

from __future__ import annotations

from collections.abc import Sequence

MIB = 1 << 20


def cell(text: str) -> str:
    """Text that can neither break a Markdown table nor pass for one of the markers around it."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<!--", "<\\!--")


def duration(seconds: float) -> str:
    """Seconds with three digits that count, in us, ms or s."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def number(value: float) -> str:
    """Three digits that count, and never an exponent: 0.87, 1.14, 27.4, 2,030."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-4 or not value else f"{value:.12f}".rstrip("0").rstrip(".")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Header and rows as Markdown, with the last line's end."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def mib(n_bytes: float) -> str:
    """Bytes as MiB."""
    return f"{n_bytes / MIB:,.1f} MiB"


def slug(text: str) -> str:
    """Part of a file's name."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
