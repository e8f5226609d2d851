"""An end from outside: SIGTERM and SIGHUP save, restore the terminal and leave within two seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from textual.app import App

from chat_app.tui.textual_private import driver_of, loop_of

DEADLINE_S = 1.7
NAMES = ("SIGTERM", "SIGHUP")

# Calls what it is given once the keys pressed before are taken in.
AfterTyping = Callable[[Callable[[], object]], object]


class GracefulEnd:
    """While active, the first signal saves and asks the app to exit. If that takes too long (the event loop
    may be waiting for a terminal that reads nothing), another thread saves, puts the terminal's modes back
    and ends the process."""

    def __init__(self, app: App[Any], save: Callable[[], object], after_typing: AfterTyping) -> None:
        self._app, self._save, self._after_typing = app, save, after_typing
        self._old: dict[int, Any] = {}
        self.received: int | None = None

    def __enter__(self) -> GracefulEnd:
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None:
                self._old[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        killer = threading.Timer(DEADLINE_S, self._force)
        killer.daemon = True
        killer.start()
        app = self._app
        loop = loop_of(app)
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(self._after_typing, self._leave)
        else:
            self._force()

    def _leave(self) -> None:
        assert self.received is not None
        self._save()
        self._app.exit(128 + self.received, return_code=128 + self.received)

    def _force(self) -> None:
        assert self.received is not None
        try:
            self._save()
            self._restore_terminal()
        finally:
            os._exit(128 + self.received)

    def _restore_terminal(self) -> None:
        """What can be had back without writing to it: its modes."""
        before = getattr(driver_of(self._app), "attrs_before", None)  # LinuxDriver's
        if before is not None:
            import termios

            termios.tcsetattr(sys.__stdin__ or 0, termios.TCSANOW, before)
