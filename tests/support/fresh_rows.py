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


def all_in_turn(context: LabContext) -> Iterator[Case | NotMeasured]:
    """Rows of which the second uses what the first has made; the last breaks off in a second process."""
    context.share("model", lambda: os.getpid())
    yield Case("first", differing, steady, check=where)
    assert context.share("model", lambda: 0) == os.getpid()
    yield NotMeasured("gpu", "no device")
    yield Case("broken", failing, steady)
    if context.tokenizer_path is not None:
        if context.tokenizer_path.exists():
            raise ValueError("out of order")
        context.tokenizer_path.touch()
    yield Case("last", differing, steady, check=same, part=Part(("RoPE",), 6.0))


WHOLE = Experiment(2, "whole", "Whole", "x", "y", all_in_turn, conclude, processes=3, whole=True)
EXPERIMENT = Experiment(1, "fresh", "Fresh", "x", "y", cases, conclude, processes=3)
