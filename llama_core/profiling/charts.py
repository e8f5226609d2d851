"""Bar charts as pictures, by matplotlib where it is installed (the extra `charts`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from llama_core.profiling.profile_text import Bars


def charts_available() -> str | None:
    """None when pictures can be drawn, else the reason with the remedy."""
    if importlib.util.find_spec("matplotlib") is None:
        return "matplotlib is not installed (the extra `charts` brings it); bars in the terminal stand in"
    return None


def draw(charts: Sequence[Bars], folder: Path) -> list[Path]:
    """One SVG a chart in `folder`; returns the files. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")  # no window, no display needed
    from matplotlib import pyplot

    files = []
    for chart in charts:
        labels = [label for label, _ in chart.values][::-1]
        values = [value for _, value in chart.values][::-1]
        figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.35 * len(values)), layout="constrained")
        bars = axes.barh(labels, values, color="#3b6ea5")
        axes.bar_label(bars, labels=[f"{value:,.3g}" for value in values], padding=3)
        axes.set_title(chart.title)
        axes.set_xlabel(chart.unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
        files.append(folder / f"{chart.name}.svg")
        figure.savefig(files[-1])
        pyplot.close(figure)
    return files
