"""How far a batch is: one line on stderr, drawn over on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from chat_app.line.console import is_terminal, say

_BAR = 24


@dataclass(frozen=True, slots=True)
class BatchState:
    """Requests: `total` in the input, `before` of them finished by earlier runs, `done` by this one, `failed`
    in all; `tokens` drawn and `elapsed_s` passed in this run; `running` share the steps now."""

    total: int
    before: int
    done: int
    failed: int
    tokens: int
    running: int
    elapsed_s: float

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this run's pace; None before anything is done."""
        left = self.total - self.before - self.done
        return self.elapsed_s / self.done * left if self.done else None


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(state: BatchState) -> str:
    finished = state.before + state.done
    share = finished / state.total if state.total else 1.0
    filled = int(share * _BAR)
    rate = state.tokens / state.elapsed_s if state.elapsed_s > 0 else 0.0
    parts = [
        f"[{'#' * filled}{'.' * (_BAR - filled)}] {finished:,} of {state.total:,}",
        f"{rate:,.0f} tok/s",
        f"{state.running} at once",
        f"ETA {clock(state.eta_s)}" if state.eta_s is not None else "ETA unknown",
    ]
    if state.failed:
        parts.insert(1, f"{state.failed:,} failed")
    return "  ".join(parts)


class BatchProgress:
    """Shows a state at most every `interval_s`; `finish` shows the last one in full."""

    def __init__(self, *, quiet: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._live = is_terminal(sys.stderr)
        self._quiet = quiet
        self._now = now
        self._interval_s = 0.2 if self._live else 10.0
        self._last_s = now() if not self._live else float("-inf")
        self._width = 0

    def show(self, state: BatchState) -> None:
        if self._quiet or self._now() - self._last_s < self._interval_s:
            return
        self._last_s = self._now()
        self._draw(progress_text(state))

    def finish(self, state: BatchState) -> None:
        if not self._quiet:
            self._draw(progress_text(state))
            if self._live:
                say("")

    def _draw(self, text: str) -> None:
        if not self._live:
            say(text)
            return
        sys.stderr.write("\r")
        say(text.ljust(self._width), end="")
        self._width = len(text)
