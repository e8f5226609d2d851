"""Results as Markdown: the findings table of the README, and every row in full."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llama_core.profiling.experiment import Row
from llama_core.profiling.machine import machine_lines
from llama_core.profiling.results import rows_of
from llama_core.profiling.statistics import Spread

BEGIN = "<!-- lab findings: written by `llama-chat lab report --readme` -->"
END = "<!-- end of lab findings -->"


def cell(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def duration(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def number(value: float) -> str:
    """Three digits that count, and never an exponent: 0.87, 1.14, 27.4, 2,030."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(side: Spread, row: Row) -> str:
    """A rate where the row counts work, else the time of a call (medians)."""
    if row.work and row.unit:
        return f"{number(row.work / side.median)} {row.unit}/s"
    return duration(side.median)


def row_cells(row: Row) -> list[str]:
    if row.ratio is None or row.before_s is None or row.after_s is None or row.match is None:
        return [row.name, "", "", "", "", row.note or "", row.verdict]
    return [
        row.name,
        amount(row.before_s, row),
        amount(row.after_s, row),
        f"{number(row.ratio.value)}x ({number(row.ratio.low)} to {number(row.ratio.high)})",
        row.claim,
        ("match: " if row.match.ok else "DIFFER: ") + row.match.text,
        row.verdict,
    ]


_HEADER = ("configuration", "before", "after", "ratio (95 % interval)", "claim", "outputs", "verdict")


def table(rows: Sequence[Row]) -> list[str]:
    lines = ["| " + " | ".join(_HEADER) + " |", "|" + "---|" * len(_HEADER)]
    lines += ["| " + " | ".join(cell(text) for text in row_cells(row)) + " |" for row in rows]
    return lines


def section(record: Mapping[str, Any]) -> str:
    """One experiment in full."""
    lines = [f"### {record['number']}. {record['title']}", "", f"Hypothesis: {record['hypothesis']}", ""]
    lines += [f"Refuted if: {record['refuted_if']}", "", *table(rows_of(record)), ""]
    lines += [f"- {sentence}" for sentence in record["conclusions"]]
    notes = [f"- {row.name}: {row.note}" for row in rows_of(record) if row.note and row.ratio]
    return "\n".join(lines + notes).rstrip() + "\n"


def headline_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows an experiment marks as such, else the one with the widest effect, else the first."""
    marked = [row for row in rows if row.headline]
    if marked:
        return marked
    measured = [row for row in rows if row.ratio]
    widest = sorted(measured, key=lambda row: -abs(math.log(row.ratio.value)) if row.ratio else 0.0)
    return (widest or list(rows))[:1]


_SHORT_HEADER = (
    "experiment",
    "row",
    "before",
    "after",
    "ratio (95 % interval)",
    "outputs",
    "the claim",
)


def findings(records: Sequence[Mapping[str, Any]]) -> str:
    """The README's table: the telling rows of each experiment, negative results included."""
    lines = ["| " + " | ".join(_SHORT_HEADER) + " |", "|" + "---|" * len(_SHORT_HEADER)]
    for record in records:
        for row in headline_rows(rows_of(record)):
            name, before, after, ratio, claim, outputs, verdict = row_cells(row)
            judged = f"{claim}: {verdict}" if claim else verdict
            topic = record["title"].partition(":")[0].partition(",")[0]
            cells = (f"{record['number']} {topic}", name, before, after, ratio, outputs, judged)
            lines.append("| " + " | ".join(cell(text) for text in cells) + " |")
    lines += ["", "\n\n".join(tally(records))]
    return "\n".join(lines) + "\n"


def tally(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many rows were confirmed, refuted and left open, and the machines they were measured on."""
    rows = [row for record in records for row in rows_of(record)]
    counts: Counter[str] = Counter(row.verdict for row in rows)
    kinds = ("confirmed", "refuted", "open", "not measured")
    lines = [f"{len(rows)} rows: " + ", ".join(f"{counts[kind]} {kind}" for kind in kinds) + "."]
    # The threads and the load, which come third, differ from experiment to experiment.
    machines = dict.fromkeys("; ".join(machine_lines(record["machine"])[:2]) for record in records)
    loads = [load[0] for record in records if (load := record["machine"].get("load_average"))]
    busy = f", load average {min(loads):g} to {max(loads):g}" if loads else ""
    return lines + [f"Measured on {cell(machine)}{busy}." for machine in machines]


def full(records: Sequence[Mapping[str, Any]]) -> str:
    """Findings first, then each experiment's rows."""
    return findings(records) + "\n" + "\n".join(section(record) for record in records)


def put_into(readme: str, text: str) -> str:
    """`readme` with what stands between the markers replaced. Raises ValueError where they are missing."""
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"the markers {BEGIN} and {END} are not there, in this order")
    return readme[: begin + len(BEGIN)] + "\n" + text.rstrip() + "\n" + readme[end:]
