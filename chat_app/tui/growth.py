"""What grows on another thread, shown on a screen as often as the eye needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from textual.message_pump import MessagePump

PERIOD_S = 0.1
T = TypeVar("T")


class Growth(Generic[T]):
    """`state` tells how far it is, in values that can be compared; `show` gets it to draw, whenever it is
    another than was drawn last."""

    def __init__(self, state: Callable[[], T], show: Callable[[T], None]) -> None:
        self._state, self._show = state, show
        self._shown: T | None = None

    def watch(self, screen: MessagePump) -> None:
        """Look now, and again ten times a second as long as the screen lives."""
        screen.set_interval(PERIOD_S, self.look)
        self.look()

    def look(self) -> None:
        """Draw it, if it has changed."""
        state = self._state()
        if state != self._shown:
            self._shown = state
            self._show(state)
