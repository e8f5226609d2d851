"""What an experiment is: a hypothesis, pairs of before and after, and what would refute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llama_core.profiling.statistics import Interval, Spread

Verdict = Literal["confirmed", "refuted", "open", "not judged", "not measured"]


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

    def judge(self, interval: Interval, match: Match, control: Interval | None = None) -> Verdict:
        """control: the ratio of `before` to itself, its middle half. Where that is off, the machine was busy
        and nothing is said about times; outputs that differ refute on any machine."""
        if not match.ok:
            return "refuted"
        if control is not None and not (QUIET.low <= control.low and control.high <= QUIET.high):
            return "not judged"
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
# Where the middle half of before-against-before lies on a machine that does nothing else.
QUIET = Claim(0.8, 1.25)
BUSY = "the machine is busy"


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


Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a NumPy engine's step a case is: the operations that `profile inference` names so, and
    how many of a case's calls a step needs. model: "stories15M" (random weights) or "default"; tokens: of the
    prompt that a prefill step computes, or that a decode step stands behind."""

    operations: tuple[str, ...]
    calls: float
    phase: Phase = "decode"
    model: Literal["stories15M", "default"] = "stories15M"
    tokens: int = 64


@dataclass(frozen=True, slots=True)
class Effect:
    """A row's effect on a whole step, from times measured in the same run.

    share: the operation's part of the step done as before; whole: how many times faster the step is.
    """

    share: float
    whole: float
    step: str


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One row: two callables that do the same work.

    `prepare` runs before each timed call of either side and is not timed (resetting a cache).
    `work` is what one call does, counted in `unit`, so that rates can be shown; 0 shows times.
    `headline` rows stand in the short table of findings. `budget_s` 0 takes the run's. `min_pairs`: fewer
    are enough where a run is long and the effect huge. `why`: the cause of the difference, in a sentence.
    `part`: of which step it is a part, for the effect on the whole. `limit_s`: seconds that `after`
    takes at least by the machine's memory or arithmetic, 0 where unknown.
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
    why: str = ""
    part: Part | None = None
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A row that this machine or this moment cannot give, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A measured case. Times are seconds per call. control: the ratio of `before` to itself, the middle half
    of what was seen. processes: how many fresh ones measured it, 0 for the laboratory's own."""

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
    control: Interval | None = None
    processes: int = 0
    why: str = ""
    effect: Effect | None = None
    limit_s: float = 0.0


@dataclass(slots=True)
class LabContext:
    """What experiments may use. `model_path` None: rows on the default model are not measured.

    `threads` None leaves every backend its own choice. `budget_s` is the time meant for one row; `cache` lets
    experiments of one run share what is slow to make. `tokenizer_path`: a real vocabulary for the tokeniser.
    """

    model_path: Path | None = None
    kernel_cache: Path | None = None
    threads: int | None = None
    budget_s: float = 2.0
    tokenizer_path: Path | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    def fresh(self) -> LabContext:
        """The same with nothing made yet, for another process."""
        return replace(self, cache={})

    def share(self, key: str, make: Callable[[], Any]) -> Any:
        """The value made by the first caller for `key`."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


Cases = Callable[[LabContext], Iterator[Case | NotMeasured]]
Conclude = Callable[[LabContext, Sequence[Row]], list[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """`number` orders the report; `conclude` adds sentences drawn from the rows (fits, break-even points).

    processes: each row is measured in so many fresh processes, because where its memory lies and what it
    holds (malloc's thresholds, the order of a dict) changes its times; 0: the calling process measures all.
    whole: each of them measures all rows, one after the other, since what they need is slow to make; else a
    row has processes of its own, in which no row before it has left anything (freed arrays). `cases` then
    stands at a module's top.
    """

    number: int
    name: str
    title: str
    hypothesis: str
    refuted_if: str
    cases: Cases
    conclude: Conclude | None = None
    processes: int = 0
    whole: bool = False
