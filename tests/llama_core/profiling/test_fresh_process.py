"""A function in a process of its own: its answer, its error, its end."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from llama_core.profiling.fresh_process import in_fresh_process


def test_the_answer_comes_from_another_process() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(divmod, 17, 5) == (3, 2)


def test_the_child_leaves_an_interruption_to_its_parent() -> None:
    assert in_fresh_process(signal.getsignal, signal.SIGINT) is signal.SIG_IGN


def test_an_error_there_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        in_fresh_process(divmod, 1, 0)


def test_an_end_without_an_answer_is_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="the measuring process ended early, with exit code 3"):
        in_fresh_process(os._exit, 3)


def test_an_interruption_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it waited for, this test would take ten minutes."""
    import time
    from multiprocessing.connection import Connection

    def interrupted(receiver: Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "recv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_fresh_process(time.sleep, 600)
    names = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not any("spawn_main" in name for name in names)
