"""The interval of a ratio from runs measured in turn.

Each pair (before, after) was measured side by side, so what disturbed the machine for a while disturbed
both: the pairs' ratios are far steadier than the times. Their median is what is stated, and a disturbed pair
more or less does not move it. Its 95 % interval asks nothing of their distribution: each pair falls below
the true median as a coin falls, so that of n sorted ratios

    r1 | r2 | ... | rk ... r(n+1-k) | ... | rn      k: the last for which fewer than k of n coins fall heads
                   [   the interval   ]                in at most 2.5 of 100 throws of all n

(the sign test turned round). That takes six pairs. Fewer, where a run is long, get Student's t over the
logarithms, which is wide.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_RANKED = 6  # from so many pairs on, the least and the greatest enclose the median 95 times in 100
# Two-sided 95 % points of Student's t for 1 to 4 degrees of freedom (any statistics table).
_T95 = (12.706, 4.303, 3.182, 2.776)


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


def ratio_interval(before_s: Sequence[float], after_s: Sequence[float]) -> Interval:
    """How many times faster `after` is: the median of before / after, pair by pair.

    Raises ValueError for fewer than two pairs, unequal lengths, or a time that is not positive.
    """
    if len(before_s) != len(after_s):
        raise ValueError(f"{len(before_s)} runs before but {len(after_s)} after")
    if len(before_s) < 2:
        raise ValueError("an interval needs at least two pairs")
    if any(not (math.isfinite(t) and t > 0) for t in (*before_s, *after_s)):
        raise ValueError("times must be positive numbers")
    ratios = sorted(b / a for b, a in zip(before_s, after_s, strict=True))
    n, middle = len(ratios), statistics.median(ratios)
    if n >= _RANKED:
        k = _outer_ranks(n)
        return Interval(middle, ratios[k - 1], ratios[n - k])
    logs = [math.log(ratio) for ratio in ratios]
    mean, half = statistics.fmean(logs), _T95[n - 2] * statistics.stdev(logs) / math.sqrt(n)
    return Interval(middle, math.exp(mean - half), math.exp(mean + half))


def _outer_ranks(n: int) -> int:
    """The k of the drawing above."""
    k, below = 0, 0.0
    while below + math.comb(n, k) / 2**n <= 0.025:
        below += math.comb(n, k) / 2**n
        k += 1
    return k


def control_interval(before_s: Sequence[float]) -> Interval | None:
    """The ratio of work to the same work right behind it: its median and its middle half; None for one run.

    before_s: runs in the order A B B A A B ..., of the A, so that the second and third, the fourth and fifth
    and so on followed each other directly. Fewer than three runs are compared as they are.
    """
    pairs = list(zip(before_s[1::2], before_s[2::2], strict=False)) or list(itertools.pairwise(before_s))
    if not pairs:
        return None
    ratios = [first / second for first, second in pairs]
    if len(ratios) == 1:
        return Interval(ratios[0], ratios[0], ratios[0])
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Interval(middle, low, high)


def envelope(intervals: Sequence[Interval]) -> Interval:
    """The intervals that several processes found as one: the median of their values, and from the least low
    to the greatest high, so that what differs from process to process lies in it.

    Raises ValueError for none.
    """
    if not intervals:
        raise ValueError("no intervals")
    return Interval(
        statistics.median(one.value for one in intervals),
        min(one.low for one in intervals),
        max(one.high for one in intervals),
    )


def spread(runs: Sequence[float]) -> Spread:
    """Median, least and greatest. Raises ValueError for an empty sequence."""
    if not runs:
        raise ValueError("no runs")
    return Spread(statistics.median(runs), min(runs), max(runs), len(runs))
