"""Bar charts as pictures, by matplotlib where it is installed (the extra `charts`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_core.profiling.profile.text import Bars, amount_text

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
            axes.bar_label(bars, labels=[amount_text(value) for value in values], padding=3)
            axes.set_title(chart.title)
            axes.set_xlabel(chart.unit)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.12)
            files.append(folder / f"{chart.name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
    return files
