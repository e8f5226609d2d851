"""A function in a process of its own: its answer, its error, its end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess

import psutil
import pytest

from llama_core.profiling.fresh_process import each_from_fresh_process, in_fresh_process


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
    from multiprocessing.connection import Connection

    def interrupted(receiver: Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "recv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_fresh_process(time.sleep, 600)
    names = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not any("spawn_main" in name for name in names)


def test_a_child_that_is_not_wanted_any_more_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its pipe is full when it is told to end, which may take a while."""
    kill = BaseProcess.kill

    def late(child: BaseProcess) -> None:
        time.sleep(0.2)
        kill(child)

    monkeypatch.setattr(BaseProcess, "kill", late)
    answers = each_from_fresh_process(itertools.repeat, b"x" * 1_000_000)
    assert len(next(answers)) == 1_000_000
    answers.close()
    assert capfd.readouterr().err == ""


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


STARTING = """
import os, signal, sys, time
from multiprocessing import util
from llama_core.profiling.fresh_process import each_from_fresh_process, in_fresh_process

spawn = util.spawnv_passfds

def interrupted(path, args, passfds):
    pid = spawn(path, args, passfds)
    if "spawn_main" in " ".join(map(os.fsdecode, args)):
        time.sleep(0.1)
        if sys.argv[1] == "parent":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
    return pid

if __name__ == "__main__":
    util.spawnv_passfds = interrupted
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("told"))
    print(in_fresh_process(divmod, 17, 5))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals are not blocked here")
@pytest.mark.parametrize(
    ("whom", "out", "err", "code"), [("parent", "", "told\n", 1), ("child", "(3, 2)\n", "", 0)]
)
def test_a_signal_while_it_starts(whom: str, out: str, err: str, code: int) -> None:
    """The child has nothing of what it starts with yet. It must not say so in a traceback."""
    done = subprocess.run([sys.executable, "-c", STARTING, whom], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (out, err, code)
