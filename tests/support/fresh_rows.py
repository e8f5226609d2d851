"""Experiments that fresh processes can find: their functions stand at a module's top."""

from __future__ import annotations

import os
from collections.abc import Iterator

from llama_core.errors import LlamaCoreError
from llama_core.profiling.lab.experiment import (
    Case,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Part,
    Timed,
    same,
)


def differing() -> Timed:
    """Another time in each process, which only the interval over all of them can show."""
    return Timed([1], 1.0 + os.getpid() % 97 / 97)


def steady() -> Timed:
    return Timed([1], 1.0)


def failing() -> Timed:
    raise LlamaCoreError("no such model")


def where(_before: object, _after: object) -> Match:
    return Match(True, f"process {os.getpid()}")


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    assert not context.cache  # nothing that another row has made
    context.share("used", lambda: True)
    yield Case("one", differing, steady, check=where, why="because")
    yield NotMeasured("gpu", "no device")
    yield Case("broken", failing, steady)
    yield Case("part", steady, steady, check=same, part=Part(("RoPE",), 6.0))


def conclude(context: LabContext, rows: object) -> list[str]:
    return [f"concluded in {os.getpid()}"]


EXPERIMENT = Experiment(1, "fresh", "Fresh", "x", "y", cases, conclude, processes=3)
