"""A benchmark's result as JSON and as a table: the ceiling first, then the figures as fractions of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_core.profiling.bench.ik import LABEL as IK_LABEL
from llama_core.profiling.bench.llama_cpp import LABEL as LLAMA_CPP_LABEL
from llama_core.profiling.bench.run import PRODUCTS_LABEL, Arithmetic, BenchResult, Row
from llama_core.profiling.statistics import spread

MIB, GB = 2**20, 1e9
PEERS = (LLAMA_CPP_LABEL, IK_LABEL)  # how their labels begin
PEAKS: dict[Arithmetic, str] = {
    "float32": "float32 products (BLAS)",
    "integer": "int8 dot products in registers (compiled)",
}


def bench_json(
    title: str, machine: dict[str, Any], result: BenchResult, starts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Everything, with each run; rates in tokens per second, bandwidth in bytes per second."""
    return {
        "model": title,
        "machine": machine,
        "bandwidth": [
            {"threads": threads, "bytes_per_s": spread(runs).median, "min": min(runs), "max": max(runs)}
            for threads, runs in result.bandwidth.items()
        ],
        "bandwidth_method": result.bandwidth_method,
        "peak_multiply_adds_per_s": {kind: spread(runs).median for kind, runs in result.peaks.items()},
        "rows": [row.to_json() for row in result.rows],
        "ratios": ratios(result),
        "start": list(starts),
    }


def bench_lines(result: BenchResult, starts: Sequence[dict[str, Any]]) -> list[str]:
    """A result for a terminal: the machine's limits, the rows, and `starts` (as `start.py` measures them)."""
    lines = []
    for threads, runs in result.bandwidth.items():
        middle = spread(runs)
        lines.append(
            f"memory: {middle.median / GB:.1f} GB/s read with {threads} threads "
            f"({middle.least / GB:.1f} to {middle.greatest / GB:.1f}; {result.bandwidth_method})"
        )
    for kind, runs in result.peaks.items():
        middle = spread(runs)
        lines.append(
            f"arithmetic: {middle.median / GB:,.0f} G multiply-adds/s of {PEAKS[kind]} "
            f"({middle.least / GB:,.0f} to {middle.greatest / GB:,.0f})"
        )
    header = ("row", "backend", "tok/s", "min", "max", "ceiling", "reached")
    lines += ["", *table([header, *(row_cells(row) for row in result.rows)])]
    if any(row.ceiling and row.spread.median > row.ceiling for row in result.rows):
        why = "a part of the model stayed in the last cache, or memory was faster than when it was read"
        lines += ["", f"More than the ceiling: {why}."]
    found = ratios(result)
    if found:
        sentences = (f"{one['row']}: {one['of']} is {one['ratio']:.2f}x {one['to']}" for one in found)
        lines += ["", *sentences]
    if starts:
        lines += ["", START_UNITS, *table([START_HEADER, *(start_cells(start) for start in starts)])]
        against = beside_peer(starts)
        lines += ["", *against] if against else []
    return lines


def beside_peer(starts: Sequence[dict[str, Any]]) -> list[str]:
    """Each of ours beside llama.cpp: the first token once warm, the time to load, the memory held and the
    most that was held."""
    sentences = []
    for other in (start for start in starts if start["backend"] == "llama.cpp"):
        for ours in (start for start in starts if start is not other):

            def times(name: str, ours: dict[str, Any] = ours, other: dict[str, Any] = other) -> float:
                return float(ours[name] / other[name])

            name, peer = ours["backend"], other["backend"]
            held, most = times("resident_bytes"), times("peak_bytes")
            sentences += [
                f"first token, warm: {name} is {1 / times('ttft_warm_s'):.1f}x sooner than {peer}",
                f"load: {name} takes {times('load_s'):.2f} of {peer}'s time",
                f"memory: {name} holds {held:.2f} of {peer}'s after loading, {most:.2f} at most",
            ]
    return sentences


def row_cells(row: Row) -> tuple[str, ...]:
    """Task, subject, tokens per second (median, least, greatest), the ceiling and the fraction of it."""
    middle = row.spread
    ceiling = f"{row.ceiling:,.0f}" if row.ceiling else ""
    reached = f"{middle.median / row.ceiling:.2f}" if row.ceiling else ""
    numbers = (f"{value:,.1f}" for value in (middle.median, middle.least, middle.greatest))
    return (row.task, row.label, *numbers, ceiling, reached)


START_UNITS = "start: load and compile in s, first token cold and warm in ms, memory in MiB"
START_HEADER = (
    *("start", "load", "compile", "cold", "warm", "resident", "peak"),
    *("weights", "KV", "scratch"),
)
ACCOUNT = ("weights_bytes", "kv_bytes", "scratch_bytes")


def start_cells(start: dict[str, Any]) -> tuple[str, ...]:
    """Cells for START_HEADER, in the units of START_UNITS."""
    return (
        start["backend"],
        f"{start['load_s']:.2f}",
        f"{start['compile_s']:.2f}",
        f"{start['ttft_cold_s'] * 1e3:,.0f}",
        f"{start['ttft_warm_s'] * 1e3:,.0f}",
        f"{start['resident_bytes'] / MIB:,.0f}",
        f"{start['peak_bytes'] / MIB:,.0f}",
        *(f"{start[name] / MIB:,.0f}" if name in start else "" for name in ACCOUNT),
    )


def ratios(result: BenchResult) -> list[dict[str, Any]]:
    """Medians of the round-by-round ratios that the claims are about: each of ours to the peers, the
    compiled backend to NumPy, NumPy's decode to the plain products over its weights, and a reply beside busy
    programs to the same without."""
    found = []
    for row in result.rows:
        for other in result.rows:
            if other.task == row.task and _compared(row.label, other.label):
                found.append(_ratio(row.task, row.label, other.label, row, other))
            elif other.label == row.label and row.task.startswith(f"{other.task}+"):
                found.append(_ratio(row.label, row.task, other.task, row, other))
    return found


def _ratio(where: str, of: str, to: str, row: Row, other: Row) -> dict[str, Any]:
    middle = spread([a / b for a, b in zip(row.runs, other.runs, strict=True)])
    return {
        "row": where,
        "of": of,
        "to": to,
        "ratio": middle.median,
        "min": middle.least,
        "max": middle.greatest,
    }


def _compared(ours: str, other: str) -> bool:
    if ours == PRODUCTS_LABEL or ours.startswith(PEERS):
        return False
    if other == PRODUCTS_LABEL:
        return ours == "numpy"
    return other.startswith(PEERS) or (ours.startswith("jit") and other == "numpy")


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns aligned: words left, figures right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 and not cell[:1].isdigit() else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
