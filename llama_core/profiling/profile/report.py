"""A report folder: report.json, report.md, and pictures where they can be drawn."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from llama_core.profiling.formatting import number
from llama_core.profiling.machine import machine_lines
from llama_core.profiling.profile.sections import Bars, Section

FLAME_TIMEOUT_S = 300.0
# Text stays text: it can be searched and read aloud, and a test can find it. No time, no random ids: the same
# profile gives the same file.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llama-core",
    "font.size": 10.0,
    "figure.constrained_layout.w_pad": 0.1,
}


def charts_available() -> str | None:
    """None when pictures can be drawn, else the reason with the remedy."""
    if importlib.util.find_spec("matplotlib") is None:
        return (
            "matplotlib is not installed, bars of characters stand in; "
            "`pip install 'llama-chat[charts]'` or `pip install matplotlib` brings it"
        )
    return None


def draw(charts: Sequence[Bars], folder: Path) -> list[Path]:
    """One SVG a chart in `folder`; returns the files. Raises ImportError without matplotlib, OSError."""
    import matplotlib
    from matplotlib.figure import Figure

    files = []
    with matplotlib.rc_context(_STYLE):
        for chart in charts:
            labels = [label for label, _ in chart.values]
            values = [value for _, value in chart.values]
            # A Figure of its own, not pyplot's: no window, no display, nothing kept.
            figure = Figure(figsize=(8, 1.1 + 0.3 * len(values)), layout="constrained")
            axes = figure.subplots()
            bars = axes.barh(range(len(values)), values, color="#3b6ea5")
            axes.set_yticks(range(len(values)), labels)  # by number: equal labels stay two bars
            axes.invert_yaxis()
            axes.bar_label(bars, labels=[number(value) for value in values], padding=3)
            axes.set_title(chart.title)
            axes.set_xlabel(chart.unit)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.12)
            files.append(folder / f"{chart.name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
    return files


def plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts with any keys as what JSON knows; bytes, which are files, as a size."""
    if isinstance(value, bytes):
        return len(value)
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


def terminal_bars(bars: Bars, width: int = 40) -> str:
    """A chart in characters."""
    if not bars.values:
        return ""
    longest = max(len(label) for label, _ in bars.values)
    largest = max(value for _, value in bars.values) or 1.0
    lines = [f"{bars.title} ({bars.unit})"]
    for label, value in bars.values:
        filled = max(0, round(width * value / largest))
        bar = "#" * filled + " " * (width - filled)
        lines.append(f"  {label.ljust(longest)}  {bar}  {number(value)}")
    return "\n".join(lines) + "\n"


class ReportFolderError(Exception):
    """No report can be written there; the text says why, and what would work."""


def prepare_folder(folder: Path) -> None:
    """Make the report's folder and see that it can be written to: to be called before what takes minutes.

    Raises ReportFolderError.
    """
    if folder.exists() and not folder.is_dir():
        raise ReportFolderError(f"{folder} is a file; a report is a folder, so give it another name")
    if not folder.parent.is_dir():
        raise ReportFolderError(f"there is no folder {folder.parent} to make the report in; make it first")
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ReportFolderError(
            f"no report can be written to {folder} ({reason}); give a folder that you may write to"
        ) from error


def write_report(
    folder: Path,
    machine: dict[str, Any],
    profiles: Mapping[str, Any],
    sections: Sequence[Section],
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write everything into `folder`, which is made; returns the files, report.json and report.md first.

    notes: sentences about the whole, such as what is missing. Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    stats = {section.stats_name: section.pstats for section in sections if section.pstats}
    for name, dumped in stats.items():
        (folder / name).write_bytes(dumped)
    charts = [chart for section in sections for chart in section.charts if chart.values]
    reason = charts_available()
    drawn = draw(charts, folder) if reason is None else []
    notes = [*notes, *([f"No pictures: {reason}."] if reason is not None else [])]
    data = folder / "report.json"
    content = {"machine": machine, "notes": notes, "profiles": plain(profiles)}
    data.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pictures = {path.stem: path.name for path in drawn}
    lines = ["# Profile", "", *(f"- {line}" for line in (*machine_lines(machine), *notes)), ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.markdown]
        for chart in section.charts:
            if chart.name in pictures:
                lines += [f"![{chart.title}]({pictures[chart.name]})", ""]
            elif chart.values:
                lines += ["```", terminal_bars(chart).rstrip(), "```", ""]
    text = folder / "report.md"
    text.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return [data, text, *drawn, *(folder / name for name in stats)]


def flame_graph(target: Path, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Run `command` under py-spy and write its flame graph, an SVG, to `target`; None when it is there, else
    the reason in a sentence.

    Source: py-spy's README (`py-spy record`). It reads another process's memory, which a system may forbid.
    """
    options = ("record", "--format", "flamegraph", "--output", str(target), "--", *command)
    return _by_tool("py-spy", options, target, environment)


def allocation_graph(target: Path, module: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The same for memory, by memray: which lines allocate, an HTML page. module: its name and arguments.

    Source: memray's documentation (`memray run`, `memray flamegraph`).
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "allocations.bin"
        options = ("run", "--quiet", "--output", str(record), "-m", *module)
        reason = _by_tool("memray", options, record, environment)
        if reason is not None:
            return reason
        return _by_tool("memray", ("flamegraph", "--output", str(target), str(record)), target, environment)


def _by_tool(name: str, options: Sequence[str], target: Path, environment: Mapping[str, str]) -> str | None:
    """Run a tool of another package that writes `target`; None when it did, else the reason."""
    tool = shutil.which(name)
    if tool is None:
        return f"{name} is not installed; `pip install {name}` brings it"
    done = subprocess.run(
        [tool, *options],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FLAME_TIMEOUT_S,
        check=False,
    )
    if target.is_file() and target.stat().st_size:
        return None
    words = done.stderr.strip().splitlines()
    return f"{name} wrote none: {words[-1] if words else f'exit code {done.returncode}'}"
