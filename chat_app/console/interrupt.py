"""Ctrl+C, SIGTERM and SIGHUP during work: it is stopped, what is done is kept, then the program ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

ENDING_SIGNALS: list[signal.Signals] = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP


class StopFlag:
    """`stop()` is what the engine asks between layers; `signum` says what stopped it."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._event = threading.Event()

    def stop(self) -> bool:
        """Whether work is to end."""
        return self._event.is_set()

    def set(self, signum: int) -> None:
        """End the work, because of this signal."""
        self.signum = signum
        self._event.set()

    @property
    def exit_code(self) -> int:
        """130 for Ctrl+C, 143 for SIGTERM, 129 for SIGHUP, as shells count; 0 when nothing stopped it."""
        return 128 + self.signum if self.signum is not None else 0


@contextlib.contextmanager
def stop_on_signals(on_stop: Callable[[], object] = lambda: None) -> Iterator[StopFlag]:
    """A flag that the first Ctrl+C, SIGTERM or SIGHUP raises; a second Ctrl+C is a KeyboardInterrupt.
    `on_stop` is called with it, between two instructions of whatever runs.

    Outside the main thread, where Python accepts no handlers, the flag is never raised.
    """
    flag = StopFlag()

    def handle(signum: int, frame: FrameType | None) -> None:
        if flag.stop() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        flag.set(signum)
        on_stop()

    with _handlers(ENDING_SIGNALS, handle, lambda now: now is not signal.SIG_IGN):
        yield flag


class EndSignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP, where they are to end work as Ctrl+C does; `signum` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def signal_of(stop: KeyboardInterrupt) -> int:
    """The number of what ended the work."""
    return stop.signum if isinstance(stop, EndSignal) else signal.SIGINT


def name_of(stop: KeyboardInterrupt) -> str:
    """What ended the work, as people call it."""
    return signal.Signals(stop.signum).name if isinstance(stop, EndSignal) else "Ctrl+C"


@contextlib.contextmanager
def signals_raise(make: Callable[[int], BaseException]) -> Iterator[None]:
    """SIGTERM and SIGHUP, where nobody handles them, raise what `make` gives, for work that asks no flag.

    Outside the main thread, where Python accepts no handlers, they do what they did.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        raise make(signum)

    numbers = [number for number in ENDING_SIGNALS if number != signal.SIGINT]
    with _handlers(numbers, handle, lambda now: now is signal.SIG_DFL):
        yield


@contextlib.contextmanager
def _handlers(
    numbers: Sequence[signal.Signals],
    handle: Callable[[int, FrameType | None], None],
    replaces: Callable[[object], bool],
) -> Iterator[None]:
    """A handler for those signals whose present one it `replaces`: what is ignored, as SIGHUP under `nohup`,
    stays so. None outside the main thread."""
    ours = [number for number in numbers if replaces(signal.getsignal(number))]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
