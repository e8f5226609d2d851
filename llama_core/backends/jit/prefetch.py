"""How far ahead of use the kernels ask for weights: found out while decoding.

Memory is read fastest when a core has as many requests under way as it can. Processors differ in what gets
them there: on Zen 5, asking 8 KiB ahead reads 48 GB/s and the core's own prefetchers alone 42; on Zen 4 those
alone read 30, and asking so far ahead is in their way, 27, while asking four cache lines ahead is worth some
2 %. Where one tile of several tokens takes the weights, asking far ahead is up to 1.2 times as fast on Zen 4
(tiles of a prompt ask in turn, `kernels/ahead.py`), and so is reading a long cache, 1.1 times behind 16,000
positions. Whoever asks for weights far ahead asks for keys and values too. The results are the same bits, so
the first decoded tokens take turns, and the way that was faster stays:

    distance  far near | near far | far near | near far | ...      neighbours are compared: both had the same
                                                                   context, and what else the machine did
"""

from __future__ import annotations

import statistics

DISTANCES = FAR, NEAR = (8192, 256)  # bytes
PAIRS = 24


class PrefetchDistance:
    """`distance` is for the next step of few tokens, `for_many` for those of a prompt; `took` tells how long
    a decoded token took. fixed: the distance in bytes that stays whatever is faster; None: the choice is made
    here."""

    def __init__(self, fixed: int | None = None) -> None:
        self.distance = self.for_many = FAR if fixed is None else fixed
        self.fixed = fixed is not None
        self._seconds: list[float] = []
        self._ratios: list[float] = []  # the second distance's time to the first's

    def took(self, seconds: float) -> None:
        """Count one step of `seconds`; the distances are tried in turn until one is chosen."""
        if self.fixed or len(self._ratios) == PAIRS:
            return
        self._seconds.append(seconds)
        if len(self._seconds) == 1:
            self.distance = NEAR if self.distance == FAR else FAR
            return
        # A pair begins with what the last one ended with: the order changes from pair to pair.
        first, second = self._seconds
        self._ratios.append(second / first if self.distance == NEAR else first / second)
        self._seconds.clear()
        if len(self._ratios) == PAIRS:
            self.distance = NEAR if statistics.median(self._ratios) < 1 else FAR
