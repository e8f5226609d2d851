"""What tests of the laboratory share: a measured row made up, and one side of a case without a clock."""

from __future__ import annotations

from llama_core.profiling.lab.experiment import (
    Case,
    Row,
    Timed,
)
from llama_core.profiling.statistics import Interval, Spread


def row(name: str, before_s: float, after_s: float, work: float = 1.0, note: str = "") -> Row:
    sides = [Spread(s, s, s, 6) for s in (before_s, after_s)]
    ratio = Interval(before_s / after_s, before_s / after_s, before_s / after_s)
    return Row(name, "confirmed", "faster", ratio, *sides, work=work, unit="tok", note=note)


def output(case: Case, side: str) -> object:
    if case.prepare is not None:
        case.prepare()
    found = getattr(case, side)()
    return found.output if isinstance(found, Timed) else found
