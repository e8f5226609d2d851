"""How far a batch is: one line on stderr, drawn over on a terminal, now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from chat_app.console.streams import is_terminal, say

_BAR = 24
_LEAST_BAR = 8


@dataclass(frozen=True, slots=True)
class BatchState:
    """Lines: `total` in the input, `finished` of them by now, `failed` among those; all others are requests.
    This run: `running` requests share the steps, `answered` ones had `answered_tokens` (prompts and replies);
    tokens `drawn` of replies and `computed` of both, those under way included, in `elapsed_s` seconds."""

    total: int
    finished: int
    failed: int
    running: int
    answered: int
    answered_tokens: int
    drawn: int
    computed: int
    elapsed_s: float

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this run's tokens per second, if the requests that are left take as many tokens,
        prompt and reply, as those it has answered did on average, or as those it has begun have taken already
        where that is more (short ones end first). Those under way count as half done. None before it has
        answered one. Bad lines and refused requests compute nothing, so they count for nothing.
        """
        left = self.total - self.finished
        if not left:
            return 0.0
        if not self.answered or not self.computed:
            return None
        each = max(self.answered_tokens / self.answered, self.computed / (self.answered + self.running))
        return self.elapsed_s * each * (left - self.running / 2) / self.computed


def clock(seconds: float) -> str:
    """Seconds as m:ss, from an hour on as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(state: BatchState, width: int | None = None) -> str:
    """The line, ASCII, in at most `width` cells: the bar gives way first, then the end of the line."""
    rate = state.drawn / state.elapsed_s if state.elapsed_s > 0 else 0.0
    eta = state.eta_s
    parts = [
        f"{state.finished:,} of {state.total:,}",
        f"{rate:,.0f} tok/s",
        f"{state.running} at once",
        f"ETA {clock(eta)}" if eta is not None else "ETA unknown",
    ]
    if state.failed:
        parts.insert(1, f"{state.failed:,} failed")
    text = "  ".join(parts)
    bar = _BAR if width is None else min(_BAR, width - len(text) - len("[] "))
    if bar >= _LEAST_BAR:
        filled = int(state.finished / state.total * bar) if state.total else bar
        text = f"[{'#' * filled}{'.' * (bar - filled)}] {text}"
    return text[:width]


class BatchProgress:
    """Shows a state at most every `interval_s`; `finish` shows the last one in full, `close` leaves its line.

    On a terminal a line never reaches the last column, so that none wraps. What a terminal itself wraps of
    the old line when it is made narrower stays above: how many rows that is, terminals do not agree on.
    """

    def __init__(self, *, quiet: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._live = is_terminal(sys.stderr)
        self._quiet = quiet
        self._now = now
        self._interval_s = 0.2 if self._live else 10.0
        self._last_s = now() if not self._live else float("-inf")
        self._shown_cells = 0

    def show(self, state: BatchState) -> None:
        """Draw the state, unless the last one was drawn a moment ago."""
        if self._quiet or self._now() - self._last_s < self._interval_s:
            return
        self._last_s = self._now()
        self._draw(state)

    def finish(self, state: BatchState) -> None:
        """Draw the last state whatever the time, and leave its line."""
        if not self._quiet:
            self._draw(state)
        self.close()

    def close(self) -> None:
        """What is said next begins on a line of its own. May be called again."""
        if self._shown_cells:
            say("")
            self._shown_cells = 0

    def _draw(self, state: BatchState) -> None:
        if not self._live:
            say(progress_text(state))
            return
        columns = terminal_columns()
        text = progress_text(state, columns - 1)
        # Blanks over what is left of a longer line: every terminal has them. The first ones after it became
        # narrower go up to the last column, where a character of the old line may stand.
        blanks = min(self._shown_cells, columns) - len(text)
        sys.stderr.write("\r")
        say(text + " " * blanks, end="")
        self._shown_cells = len(text)


def terminal_columns() -> int:
    """Of the terminal behind stderr; 80 where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
