"""Results as Markdown: the findings table of the README, and every row in full."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from llama_core.profiling.formatting import cell, duration, markdown_table, number
from llama_core.profiling.lab.experiment import Row, Verdict
from llama_core.profiling.lab.records import Record, utc
from llama_core.profiling.machine import machine_lines
from llama_core.profiling.statistics import Spread

BEGIN = "<!-- lab findings: written by `llama-chat lab report --readme` -->"
END = "<!-- end of lab findings -->"


def amount(side: Spread, row: Row) -> str:
    """A rate where the row counts work, else the time of a call (medians)."""
    if row.work and row.unit:
        return f"{number(row.work / side.median)} {row.unit}/s"
    return duration(side.median)


def span(side: Spread, row: Row) -> str:
    """`amount` with the least and the greatest of all runs."""
    if row.work and row.unit:
        least, greatest = (number(row.work / seconds) for seconds in (side.greatest, side.least))
    else:
        least, greatest = duration(side.least), duration(side.greatest)
    return f"{amount(side, row)} ({least} to {greatest})"


def interval(row: Row) -> str:
    """The ratio with its 95 % interval; empty for a row that was not measured."""
    if row.ratio is None:
        return ""
    return f"{number(row.ratio.value)}x ({number(row.ratio.low)} to {number(row.ratio.high)})"


def outputs(row: Row) -> str:
    """Whether the outputs match and how closely; for a row that was not measured, why not."""
    if row.match is None:
        return row.note
    return ("match: " if row.match.ok else "DIFFER: ") + row.match.text


def sides(row: Row, *, spread: bool) -> tuple[str, str]:
    """Before and after: medians, with least and greatest where `spread` is asked for."""
    if row.before_s is None or row.after_s is None:
        return "", ""
    show = span if spread else amount
    return show(row.before_s, row), show(row.after_s, row)


def reason(row: Row) -> str:
    """Why a row is as it is, what that means for a whole step, and how near it is to what the machine allows;
    empty where nothing is known."""
    parts = [row.why] if row.why else []
    if row.effect is not None:
        share, whole = row.effect.share, row.effect.whole
        parts.append(f"{100 * share:.2g} % of {row.effect.step}, which becomes {whole:.3f}x as fast")
    if row.limit_s and row.after_s is not None:
        allowed = amount(replace(row.after_s, median=row.limit_s), row)
        reached = row.limit_s / row.after_s.median
        parts.append(f"reaches {reached:.2f} of the {allowed} that the machine allows")
    return "; ".join(parts)


def control(row: Row) -> str:
    """Before against itself: the median and the middle half; empty where it was not measured."""
    if row.control is None:
        return ""
    return f"{number(row.control.value)}x ({number(row.control.low)} to {number(row.control.high)})"


_FULL_HEADER = (
    "configuration",
    "before: median (min to max)",
    "after: median (min to max)",
    "ratio (95 % interval)",
    "pairs",
    "before against before (middle half)",
    "claim",
    "outputs",
    "verdict",
)


def full_cells(row: Row) -> tuple[str, ...]:
    """Cells for _FULL_HEADER."""
    pairs = str(row.before_s.n) if row.before_s else ""
    if row.processes > 1:
        pairs += f" in {row.processes} processes"
    judged = (row.claim, outputs(row), row.verdict)
    return (row.name, *sides(row, spread=True), interval(row), pairs, control(row), *judged)


def section(record: Record) -> str:
    """One experiment in full: hypothesis, every row with its spread, what it was measured on."""
    lines = [f"### {record.number}. {record.title}", "", f"Hypothesis: {record.hypothesis}", ""]
    lines += [f"Refuted if: {record.refuted_if}", ""]
    lines.append(markdown_table(_FULL_HEADER, [full_cells(row) for row in record.rows]))
    lines += [f"- {sentence}" for sentence in record.conclusions]
    for row in record.rows:
        said = [text for text in (reason(row), row.note) if text]
        lines += [f"- {row.name}: {'; '.join(said)}"] if said and row.ratio else []
    if record.incomplete:
        lines.append(f"- Incomplete: {record.incomplete}")
    machine = "; ".join(machine_lines(record.machine))
    lines.append(f"- Measured {utc(record.time):%Y-%m-%d %H:%M} UTC in {record.elapsed_s:.0f} s on {machine}")
    return "\n".join(lines) + "\n"


def headline_rows(rows: Sequence[Row]) -> list[Row]:
    """What a short table must show: the rows an experiment marks, else the one with the widest effect, and
    every row that did not go as claimed."""
    marked = [row for row in rows if row.headline] or sorted(rows, key=effect, reverse=True)[:1]
    return [row for row in rows if row in marked or row.verdict in ("refuted", "open", "not judged")]


def effect(row: Row) -> float:
    """How far the ratio is from 1, either way; less than any for a row that was not measured."""
    return abs(math.log(row.ratio.value)) if row.ratio else -1.0


_SHORT_HEADER = (
    "experiment",
    "row",
    "before",
    "after",
    "ratio (95 % interval)",
    "outputs",
    "the claim",
)


def short_cells(record: Record, row: Row) -> tuple[str, ...]:
    """Cells for _SHORT_HEADER."""
    topic = f"{record.number} {record.title.partition(':')[0]}"
    judged = f"{row.claim}: {row.verdict}" if row.claim else row.verdict
    return (topic, row.name, *sides(row, spread=False), interval(row), outputs(row), judged)


# How a row is to be read; above every table.
_LEGEND = """\
Each row is one piece of work done in two ways, in turn, again and again. The ratio is the time of the first
way divided by that of the second: above 1, the second is faster. It is the median of the pairs, and in
brackets stands its 95 % interval. A claim is confirmed where the whole interval lies inside it, refuted
where all of it lies outside or the outputs differ, and open in between; where work differs from itself by
more than a quarter the machine was busy, and nothing is judged. `within 1e-06`: no value is further
off than that share of the largest one. (1, 256, 6, 48) is a shape: sequences, positions, heads, numbers a
head."""


def findings(records: Sequence[Record]) -> str:
    """The README's table: the telling rows of each experiment, every negative result among them."""
    rows = [short_cells(record, row) for record in records for row in headline_rows(record.rows)]
    table = markdown_table(_SHORT_HEADER, rows).rstrip()
    return "\n\n".join([_LEGEND, table, tally(records), *gaps(records), *provenance(records)]) + "\n"


def tally(records: Sequence[Record]) -> str:
    """How many rows were confirmed, refuted, left open and not measured."""
    counts: Counter[str] = Counter(row.verdict for record in records for row in record.rows)
    kinds = [kind for kind in get_args(Verdict) if kind != "not judged" or counts[kind]]
    return f"{counts.total()} rows: " + ", ".join(f"{counts[kind]} {kind}" for kind in kinds) + "."


def gaps(records: Sequence[Record]) -> list[str]:
    """What was not measured and which experiments broke off, each with the reason."""
    missing = [
        f"{row.name} ({row.note})"
        for record in records
        for row in record.rows
        if row.verdict == "not measured"
    ]
    lines = [f"Not measured: {cell('; '.join(missing))}."] if missing else []
    broken = [
        f"{record.number} {record.name} ({record.incomplete})" for record in records if record.incomplete
    ]
    return lines + ([f"Incomplete experiments: {cell('; '.join(broken))}."] if broken else [])


def provenance(records: Sequence[Record]) -> list[str]:
    """When and on what the rows were measured: a sentence for each run on each machine."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        *machine, last = machine_lines(record.machine)
        threads, _, _ = last.partition("; load average")  # which differs from experiment to experiment
        # Older files do not tell the runs of a day apart.
        groups.setdefault((record.run or record.time[:10], *machine, threads), []).append(record)
    return [_measured(group, "; ".join(on)) for (_, *on), group in groups.items()]


def _measured(group: Sequence[Record], machine: str) -> str:
    first, last = min(utc(record.time) for record in group), max(utc(record.time) for record in group)
    until = f"{last:%H:%M}" if last.date() == first.date() else f"{last:%Y-%m-%d %H:%M}"
    when = _from_to(f"{first:%Y-%m-%d %H:%M}", until if f"{first:%H:%M}" != until else "")
    loads = [load[0] for record in group if (load := record.machine["load_average"])]
    load = _from_to(f"{min(loads):g}", f"{max(loads):g}") if loads else "unknown"
    numbers = ("Experiments " if len(group) > 1 else "Experiment ") + _ranges([one.number for one in group])
    return f"{numbers}: measured {when} UTC on {cell(machine)}; load average before: {load}."


def _from_to(first: str, last: str) -> str:
    return first if last in ("", first) else f"{first} to {last}"


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as "1 to 3, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(_from_to(str(run[0]), str(run[-1])) for run in runs)


def full(records: Sequence[Record]) -> str:
    """Findings first, then each experiment's rows with their spread."""
    return "# Findings\n\n" + findings(records) + "\n" + "\n".join(section(record) for record in records)


def put_into(readme: str, text: str) -> str:
    """`readme` with what stands between the markers replaced. Raises ValueError where they are missing."""
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"the markers {BEGIN} and {END} are not there, in this order")
    return readme[: begin + len(BEGIN)] + "\n" + text.rstrip() + "\n" + readme[end:]
