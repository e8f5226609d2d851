"""A report folder: report.json, report.md, and pictures where they can be drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from llama_core.profiling.charts import charts_available, draw
from llama_core.profiling.machine import machine_lines
from llama_core.profiling.profile_text import Section, terminal_bars


def plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts with any keys as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def terminal_text(sections: Sequence[Section]) -> str:
    """The report for people who read it in the terminal: tables, then bars."""
    parts = []
    for section in sections:
        parts += [f"## {section.title}\n", section.markdown]
        parts += [terminal_bars(chart) for chart in section.charts]
    return "\n".join(parts)


def write_report(
    folder: Path, machine: dict[str, Any], profiles: Mapping[str, Any], sections: Sequence[Section]
) -> list[Path]:
    """Write everything into `folder`, which is made; returns the files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = [chart for section in sections for chart in section.charts if chart.values]
    drawn = draw(charts, folder) if charts_available() is None else []
    data = folder / "report.json"
    content = {"machine": machine, "profiles": plain(profiles)}
    data.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pictures = {path.stem: path.name for path in drawn}
    lines = ["# Profile", "", *(f"- {line}" for line in machine_lines(machine)), ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.markdown]
        for chart in section.charts:
            if chart.name in pictures:
                lines += [f"![{chart.title}]({pictures[chart.name]})", ""]
            elif chart.values:
                lines += ["```", terminal_bars(chart).rstrip(), "```", ""]
    text = folder / "report.md"
    text.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return [data, text, *drawn]
