"""Which signals end work, and that those a shell has us ignore do not."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from chat_app.console.interrupt import EndSignal, signals_raise, stop_on_signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


@contextlib.contextmanager
def handler(number: signal.Signals, what: Any) -> Iterator[None]:
    before = signal.signal(number, what)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_work_and_gives_the_exit_code(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as flag:
        assert not flag.stop()
        signal.raise_signal(number)
        assert flag.stop()
        assert flag.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_work_without_a_flag_is_interrupted() -> None:
    with pytest.raises(EndSignal) as stop, signals_raise(EndSignal):
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.signum == signal.SIGTERM


def test_under_nohup_work_goes_on_when_its_terminal_is_gone() -> None:
    with handler(signal.SIGHUP, signal.SIG_IGN):
        with stop_on_signals() as flag:
            signal.raise_signal(signal.SIGHUP)
            assert not flag.stop()
        with signals_raise(EndSignal):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
