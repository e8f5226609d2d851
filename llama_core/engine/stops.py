"""Stop strings in streamed text: what may be the beginning of one is held back until it is decided."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text on up to the first stop string, which it swallows.

    The text of a reply comes in pieces, and a stop string may lie across several. The longest end of the
    text that a stop string begins with is kept; everything before it is safe.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that can be shown now. Empty for ever once a stop string has come."""
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        self._held += text
        # The one that is complete first wins, whatever pieces the text comes in.
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, begin = min(found)
            shown, self._held = self._held[:begin], ""
            return shown
        keep = max(self._overlap(stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back, at the end of a reply that no stop string ended."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that `stop` begins with."""
        for n in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:n]):
                return n
        return 0
