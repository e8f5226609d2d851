"""What an experiment is: a hypothesis, pairs of before and after, and what would refute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llama_core.profiling.statistics import Interval, Spread

Verdict = Literal["confirmed", "refuted", "open", "not measured"]


@dataclass(frozen=True, slots=True)
class Match:
    """Whether two outputs agree, and how closely, in words."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Where the hypothesis says the ratio before / after lies, both ends included.

    It is confirmed when the whole interval lies inside, refuted when all of it lies outside, open between.
    Whatever the interval, outputs that differ refute it.
    """

    low: float = 1.0
    high: float = math.inf

    def judge(self, interval: Interval, match: Match) -> Verdict:
        if not match.ok:
            return "refuted"
        if self.low <= interval.low and interval.high <= self.high:
            return "confirmed"
        if interval.high < self.low or interval.low > self.high:
            return "refuted"
        return "open"

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "faster" if self.low == 1.0 else f"at least {self.low:g}x"
        if self.low == 0.0:
            return "slower" if self.high == 1.0 else f"at most {self.high:g}x"
        return f"{self.low:g}x to {self.high:g}x"


FASTER = Claim()
SLOWER = Claim(0.0, 1.0)
SAME = Claim(0.95, 1.05)


Check = Callable[[Any, Any], Match]


def arrays_match(tolerance: float = 1e-4) -> Check:
    """Same shape, and no value further apart than `tolerance` times the largest magnitude before."""

    def check(before: Any, after: Any) -> Match:
        left, right = np.asarray(before), np.asarray(after)
        if left.shape != right.shape:
            return Match(False, f"shapes {left.shape} and {right.shape}")
        if left.size == 0:
            return Match(True, "both empty")
        if np.array_equal(left, right):
            return Match(True, "identical")
        scale = float(np.max(np.abs(left))) or 1.0
        relative = float(np.max(np.abs(left.astype(np.float64) - right))) / scale
        if math.isnan(relative):
            return Match(False, "not a number (NaN) in one of them")
        if relative > tolerance:
            return Match(False, f"apart by {relative:.0e} of the largest value")
        return Match(True, f"within {relative:.0e} of the largest value")

    return check


def same(before: Any, after: Any) -> Match:
    """Equal Python values (token ids, text)."""
    if before == after:
        return Match(
            True, f"identical ({len(before)} items)" if isinstance(before, Sequence) else "identical"
        )
    return Match(False, "different")


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """What a side may return to be timed by its own clock: the output, and the seconds that count."""

    output: Any
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One row: two callables that do the same work.

    `prepare` runs before each timed call of either side and is not timed (resetting a cache).
    `work` is what one call does, counted in `unit`, so that rates can be shown; 0 shows times.
    `headline` rows stand in the short table of findings. `budget_s` 0 takes the run's. `min_pairs`: fewer
    are enough where a run is long and the effect huge.
    """

    name: str
    before: Callable[[], Any]
    after: Callable[[], Any]
    claim: Claim = FASTER
    check: Check = field(default_factory=arrays_match)
    work: float = 0.0
    unit: str = ""
    prepare: Callable[[], Any] | None = None
    note: str = ""
    headline: bool = False
    budget_s: float = 0.0
    min_pairs: int = 6


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A row that this machine or this moment cannot give, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A measured case. Times are seconds per call."""

    name: str
    verdict: Verdict
    claim: str
    ratio: Interval | None = None
    before_s: Spread | None = None
    after_s: Spread | None = None
    match: Match | None = None
    work: float = 0.0
    unit: str = ""
    note: str = ""
    headline: bool = False


@dataclass(slots=True)
class LabContext:
    """What experiments may use. `model_path` None: rows on the default model are not measured.

    `threads` None leaves every backend its own choice. `budget_s` is the time meant for one row; `cache` lets
    experiments of one run share what is slow to make.
    """

    model_path: Path | None = None
    kernel_cache: Path | None = None
    threads: int | None = None
    budget_s: float = 3.0
    cache: dict[str, Any] = field(default_factory=dict)

    def share(self, key: str, make: Callable[[], Any]) -> Any:
        """The value made by the first caller for `key`."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


Cases = Callable[[LabContext], Iterator[Case | NotMeasured]]
Conclude = Callable[[LabContext, Sequence[Row]], list[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """`number` orders the report; `conclude` adds sentences drawn from the rows (fits, break-even points)."""

    number: int
    name: str
    title: str
    hypothesis: str
    refuted_if: str
    cases: Cases
    conclude: Conclude | None = None
