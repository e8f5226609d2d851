"""The interval of a ratio from runs measured in turn.

Each pair (before, after) was measured side by side, so what disturbed the machine for a while disturbed
both: the logarithms of the pairs' ratios are far steadier than the times. Their mean with Student's t
gives the geometric mean of the ratio and its 95 % interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom (any statistics table).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL95 = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of a set of runs, in the runs' unit."""

    median: float
    least: float
    greatest: float
    n: int


def student_t95(degrees: int) -> float:
    """The t for a two-sided 95 % interval; raises ValueError below 1 degree of freedom."""
    if degrees < 1:
        raise ValueError("an interval needs at least two pairs")
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    # Cornish and Fisher's expansion: within 1e-4 of the exact value beyond 30 degrees.
    z = _NORMAL95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def ratio_interval(before_s: Sequence[float], after_s: Sequence[float]) -> Interval:
    """How many times faster `after` is: the geometric mean of before / after, pair by pair.

    Raises ValueError for fewer than two pairs, unequal lengths, or a time that is not positive.
    """
    if len(before_s) != len(after_s):
        raise ValueError(f"{len(before_s)} runs before but {len(after_s)} after")
    if any(not (math.isfinite(t) and t > 0) for t in (*before_s, *after_s)):
        raise ValueError("times must be positive numbers")
    logs = [math.log(b / a) for b, a in zip(before_s, after_s, strict=True)]
    t95 = student_t95(len(logs) - 1)
    mean = statistics.fmean(logs)
    half = t95 * statistics.stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def spread(runs: Sequence[float]) -> Spread:
    """Raises ValueError for an empty sequence."""
    if not runs:
        raise ValueError("no runs")
    return Spread(statistics.median(runs), min(runs), max(runs), len(runs))
