"""A function in a process of its own: its answer, its error, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from llama_core.profiling import fresh_process
from llama_core.profiling.fresh_process import in_fresh_process


def test_the_answer_comes_from_another_process() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(divmod, 17, 5) == (3, 2)


def test_the_child_leaves_an_interruption_to_its_parent() -> None:
    assert in_fresh_process(signal.getsignal, signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no masks of signals here")
def test_what_ends_this_process_waits_while_the_child_is_started() -> None:
    """A child that still imports its modules would end with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    waited = []
    elsewhere = threading.Event()
    other = threading.Thread(target=elsewhere.wait)  # this thread's mask is not that one's
    other.start()

    def interrupted() -> None:
        with fresh_process._signals_held():
            signal.pthread_kill(other.ident or 0, signal.SIGINT)
            time.sleep(0.1)
            waited.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    elsewhere.set()
    other.join()
    assert waited
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert in_fresh_process(signal.pthread_sigmask, signal.SIG_BLOCK, ()) == before


def test_an_error_there_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        in_fresh_process(divmod, 1, 0)


def test_an_end_without_an_answer_is_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="the measuring process ended early, with exit code 3"):
        in_fresh_process(os._exit, 3)


def test_an_interruption_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it waited for, this test would take ten minutes."""
    from multiprocessing.connection import Connection

    def interrupted(receiver: Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "recv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_fresh_process(time.sleep, 600)
    names = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not any("spawn_main" in name for name in names)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_it_ends_with_a_parent_that_was_killed() -> None:
    """Were it not to, it would live for ten minutes."""
    code = (
        "import time; from llama_core.profiling.fresh_process import in_fresh_process\n"
        "if __name__ == '__main__': in_fresh_process(time.sleep, 600)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        process = psutil.Process(parent.pid)
        measuring: list[psutil.Process] = []
        while not measuring:
            time.sleep(0.05)
            measuring = [c for c in process.children() if "spawn_main" in " ".join(c.cmdline())]
        time.sleep(1.0)  # it may still be starting, when the pipe it starts from ends it as well
        parent.kill()
    assert psutil.wait_procs(measuring, timeout=60)[1] == []
