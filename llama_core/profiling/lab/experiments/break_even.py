"""After how many tokens the time of compiling is paid back, for a function and for the whole step."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from llama_core.backends.jit import ISA_VARIABLE
from llama_core.profiling.lab.experiment import LabContext, Row

# The row's name up to the colon.
STEP = "the whole decode step"
_NOTE = re.compile(r"compiled in ([\d.]+) s, needed (\d+) times a token")


def compile_note(seconds: float, per_token: int) -> str:
    """A row's note, which `conclude` reads again."""
    return f"compiled in {seconds:.2f} s, needed {per_token} times a token"


def step_compile_s() -> float | None:
    """Seconds in which the kernels of a whole step are built, as the first start on a machine does it: once,
    by a process of its own, into an empty folder. None where nothing came of it."""
    from llama_core.backends.jit.build.builder import start_builder
    from llama_core.backends.jit.build.library import unpacked
    from llama_core.backends.jit.build.variants import choose, host_features

    variant = choose(host_features(), os.environ.get(ISA_VARIABLE))
    start = time.perf_counter()
    child = start_builder(variant)
    if child is None or child.stdout is None:
        return None
    with child:  # Ctrl+C closes its stdin, which ends it
        built = unpacked(child.stdout.read())
        child.wait()
        seconds = time.perf_counter() - start
    return None if built is None else seconds


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """After how many tokens each compilation has paid for itself, where the ratio excludes 1."""
    sentences = []
    for row in rows:
        told = _NOTE.search(row.note)
        if told is None or row.ratio is None or row.before_s is None or row.after_s is None:
            continue
        compile_s, times = float(told[1]), int(told[2])
        saved = (row.before_s.median - row.after_s.median) * times
        if row.ratio.high < 1:
            paid = "never paid back"
        elif row.ratio.low > 1 and saved > 0:
            paid = f"paid back after {compile_s / saved:,.0f} tokens"
        else:
            sides = f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
            paid = f"no break-even point can be given: the interval of its ratio includes 1 ({sides})"
        name = re.split("[,:]", row.name)[0]
        sentence = f"{name}: compiled in {compile_s:.2f} s, {paid}"
        if name == STEP and row.ratio.low > 1:
            sentence += " against NumPy's decode (once on a machine: the kernels are kept)"
        sentences.append(sentence)
    return sentences
