"""How many requests a server gets at once: more while that brings more, fewer when it says so.

A window is some answers at one limit. While the limit grows, each window doubles it as long as the work done
in a second grows with it: once it does not, requests only wait longer, and the limit goes back. A refusal
(429) takes a part away at once. Later windows try a little more now and then, since a server may have become
freer.
"""

from __future__ import annotations

START = 4
MOST = 1024
GAIN = 1.1  # the least by which a larger limit must do more
LOSS = 0.7  # what is left of the limit after a refusal
LEAST_ANSWERS = 8  # in a window
PAUSE_WINDOWS = 6  # between two tries once it has stopped growing


class Limit:
    """`value` requests at once, from 1 to `most`. Times in seconds."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most or MOST
        self.value = min(START, self.most)
        self._before = self.value  # what goes back, where more brings nothing
        self._rate = 0.0  # work a second at `_before`
        self._growing = True
        self._pause = 0
        self._open(None)

    def _open(self, now_s: float | None) -> None:
        self._since_s, self._n, self._work = now_s, 0, 0.0
        self._settling = self.value  # answers that were asked for under the limit before

    def answered(self, now_s: float, work: float, *, full: bool) -> None:
        """An answer came; `work` is its tokens. full: as many as may were under way, so that it tells
        something about the limit."""
        if not full:
            self._open(None)
            return
        if self._settling > 0:
            self._settling -= 1
            return
        if self._since_s is None:
            self._since_s = now_s
            return
        self._n += 1
        self._work += work
        if self._n >= max(LEAST_ANSWERS, self.value) and now_s > self._since_s:
            self._judge(self._work / (now_s - self._since_s))
            self._open(now_s)

    def _judge(self, rate: float) -> None:
        if not self._growing:
            self._pause -= 1
            if self._pause <= 0:
                self._try(rate, self.value + max(1, self.value // 4))
        elif rate > self._rate * GAIN or self.value == self._before:
            self._try(rate, self.value * 2)
        else:
            self.value, self._growing, self._pause = self._before, False, PAUSE_WINDOWS

    def _try(self, rate: float, value: int) -> None:
        self._before, self._rate, self._growing = self.value, rate, True
        self.value = min(value, self.most)

    def refused(self) -> None:
        """The server said that it is too much."""
        self.value = max(1, int(self.value * LOSS))
        self._before, self._growing, self._pause = self.value, False, PAUSE_WINDOWS
        self._open(None)
