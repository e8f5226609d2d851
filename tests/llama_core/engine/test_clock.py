"""What a stop of the process does to the engine's times: nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from llama_core.engine.clock import EngineClock, RunningTime, Usage


@dataclass
class Process:
    """A process whose clocks a test moves."""

    now_s: float = 100.0
    cpu_s: float = 5.0
    disk_n: int = 0

    def run(self, seconds: float, *, threads: float = 1.0, disk_n: int = 0) -> None:
        self.now_s += seconds
        self.cpu_s += seconds * threads
        self.disk_n += disk_n

    def clock(self) -> RunningTime:
        return RunningTime(lambda: self.now_s, lambda: Usage(self.cpu_s, self.disk_n))


@pytest.mark.parametrize("threads", [0.3, 1, 2])
@pytest.mark.parametrize("stop_s", [0.5, 60, 86_400])
def test_a_stop_is_left_out(threads: float, stop_s: float) -> None:
    process = Process()
    clock = process.clock()
    for _ in range(3):
        process.run(0.02, threads=threads)
        clock()
    before = clock()
    process.run(0.01, threads=threads)
    process.run(stop_s, threads=0)
    process.run(0.01, threads=threads)
    assert clock() - before == pytest.approx(0.02, rel=0.71)  # at worst the threads' share of it
    before = clock()
    process.run(0.02, threads=threads)
    assert clock() - before == pytest.approx(0.02)


def test_each_stop_is_left_out_and_what_is_between_counts() -> None:
    process = Process()
    clock = process.clock()
    before = clock()
    for _ in range(5):
        process.run(1.0)
        clock()
        process.run(7.0, threads=0)
        clock()
    assert clock() - before == pytest.approx(5.0)


def test_a_busy_machine_and_a_slow_disk_are_no_stops() -> None:
    process = Process()
    clock = process.clock()
    before = clock()
    process.run(4.0, threads=0.08)  # one turn in twelve
    assert clock() - before == pytest.approx(4.0)
    process.run(4.0, threads=0.0, disk_n=3)  # swapping
    assert clock() - before == pytest.approx(8.0)
    process.run(0.2, threads=0.0)  # a moment
    assert clock() - before == pytest.approx(8.2)


COMPUTES = """
import time
from llama_core.engine.clock import EngineClock
clock = EngineClock()
print("ready", flush=True)
end = time.process_time() + 0.3
while time.process_time() < end:
    for _ in range(20_000):
        pass
    clock.elapsed_s()
print(clock.elapsed_s())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no process so")
def test_a_process_that_is_stopped_for_a_second() -> None:
    with subprocess.Popen([sys.executable, "-c", COMPUTES], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began = time.perf_counter()
        child.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        wall_s = time.perf_counter() - began
        began = time.perf_counter()
        child.send_signal(signal.SIGCONT)
        elapsed_s = float(child.stdout.readline())
    assert wall_s > 1.0
    # What ran before the stop and behind it, however long that was.
    assert elapsed_s < time.perf_counter() - began + wall_s - 0.9


def test_the_engines_clock_is_such_a_clock() -> None:
    assert isinstance(EngineClock()._now, RunningTime)
