"""When the engine's news are taken in: at once, then as often as drawing them leaves time for keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from textual.message import Message

from chat_app.tui.work import Job

TICK_S = 0.04
PANEL_PERIOD_S = 0.12
MAX_REST_S = 0.5


class EngineNews(Message, bubble=False):
    """Records wait in the engine's host: take them. Several of these in a row are as good as one."""

    def can_replace(self, message: Message) -> bool:
        """Whether `message` is news as well: one in the queue is enough."""
        return isinstance(message, EngineNews)


class Drain:
    """take: takes the news in. later: draws in order. after_refresh: calls when the screen is up to date.
    show_numbers: the live panel."""

    def __init__(
        self,
        take: Callable[[], Awaitable[Any]],
        later: Callable[[Job], None],
        after_refresh: Callable[[Callable[[], None]], object],
        show_numbers: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._take, self._later, self._after_refresh = take, later, after_refresh
        self._show_numbers = show_numbers
        self._clock = clock
        self._drawing = False
        self._panel_due = self._draw_began = self._due = 0.0

    async def now(self, *, numbers: bool) -> None:
        """Take in what there is. `numbers`: show them in any case, however soon after the last time."""
        await self._take()
        now = self._clock()
        if now >= self._panel_due or numbers:
            self._panel_due = now + PANEL_PERIOD_S
            self._show_numbers()

    async def tick(self, *, numbers: bool) -> bool:
        """The same, unless the last drawing was so slow that keys would have to wait for the next one."""
        now = self._clock()
        if now < self._due or (self._drawing and now < self._draw_began + MAX_REST_S):
            return False
        self._drawing = True
        self._draw_began = now
        await self.now(numbers=numbers)
        self._later(self._when_drawn)
        return True

    async def _when_drawn(self) -> None:
        self._after_refresh(self._drawn)

    def _drawn(self) -> None:
        """What was drained is on the screen: rest for four times as long as that took."""
        now = self._clock()
        self._due = now + min(MAX_REST_S, 4 * (now - self._draw_began))
        self._drawing = False
