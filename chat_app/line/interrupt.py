"""Ctrl+C, SIGTERM and SIGHUP while the engine runs: the reply is stopped and kept, then the program ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP


class StopFlag:
    """`stop()` is what the engine asks between layers; `signum` says what stopped it."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._event = threading.Event()

    def stop(self) -> bool:
        return self._event.is_set()

    def set(self, signum: int) -> None:
        self.signum = signum
        self._event.set()

    @property
    def exit_code(self) -> int:
        """130 for Ctrl+C, 143 for SIGTERM, 129 for SIGHUP, as shells count; 0 when nothing stopped it."""
        return 128 + self.signum if self.signum is not None else 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """A flag that the first Ctrl+C, SIGTERM or SIGHUP raises; a second Ctrl+C is a KeyboardInterrupt.

    Outside the main thread, where Python accepts no handlers, the flag is never raised.
    """
    flag = StopFlag()

    def handle(signum: int, frame: FrameType | None) -> None:
        if flag.stop() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        flag.set(signum)

    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, handle) for number in ENDING_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
