"""The rules by which threads share a step, under orders of events that a processor shows once in a million.

The functions are the ones that are compiled, run here as Python: each read, write and atomic operation is a
point at which a seeded scheduler may let another thread go on, or leave one away for a long time.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.backends.jit.control import schedule
from llama_core.backends.jit.control import step as step_module
from llama_core.backends.jit.control.records import ALONE, CURRENT, END, PHASE_BYTES, STAMP_BYTES

SHARED, ARGUMENTS, TABLES = 1 << 41, 1 << 42, 1 << 43
SLEEP, WAKE, YIELD, CLOCK = 1, 2, 3, 4
STAMPS = 1 << 44
OPERATIONS = ("word", "atomic_load", "atomic_store", "atomic_add", "compare_exchange", "pause")


class Words:
    """A record of which each read and write lets other threads go on."""

    def __init__(self, machine: Machine, **words: Any) -> None:
        object.__setattr__(self, "machine", machine)
        object.__setattr__(self, "words", words)

    def __getattr__(self, name: str) -> Any:
        self.machine.turn()
        return self.words[name]

    def __setattr__(self, name: str, value: int) -> None:
        self.machine.turn()
        self.words[name] = value


class Machine:
    """Memory, and threads of which one runs at a time; which one, the seed decides at every operation."""

    def __init__(self, seed: int, n_threads: int) -> None:
        self.memory: Counter[int] = Counter()
        self.random = random.Random(seed)
        # How readily the scheduler takes the core away; a thread left away returns whole steps later.
        self.restless = self.random.choice([0.02, 0.1, 0.5])
        self.batons = [threading.Semaphore(0) for _ in range(n_threads)]
        self.asleep = [False] * n_threads
        self.wakes = [0] * n_threads
        self.stamped: list[int] = []
        self.finished = [False] * n_threads
        self.away = -1
        self.running = 0
        self.operations = 0
        self.broken: AssertionError | None = None
        # As in a workspace: phase 0 is over, and every cursor is left over from it.
        self.memory[SHARED + CURRENT] = self.memory[SHARED + END] = 1
        for thread in range(n_threads):
            self.memory[ARGUMENTS + 8 * thread] = thread
        step = Words(self, first_number=0, phases=0, n_phases=0, n_tokens=0, n_spans=0)
        self.plan: Any = Words(
            self,
            step=step,
            shared=SHARED,
            n_threads=n_threads,
            workers=0,
            worker_stride=1,
            sleep=SLEEP,
            wake=WAKE,
            give_way=YIELD,
            sleep_arguments=ARGUMENTS,
            clock=CLOCK,
            stamps=STAMPS,
        )

    def turn(self, must: bool = False) -> None:
        """The running thread offers its core; returns when it has one again."""
        self.operations += 1
        if self.operations > 100_000:
            self.broken = AssertionError("threads wait for each other, or for nothing")
        me = self.running
        if must or self.broken or self.random.random() < self.restless:
            self.give_away(me)

    def give_away(self, me: int) -> None:
        able = [t for t, done in enumerate(self.finished) if not done and not self.asleep[t]]
        if self.random.random() < 0.02:
            self.away = self.random.randrange(len(self.batons))
        able = [t for t in able if t != self.away] or able
        if self.broken:  # everyone leaves, the caller last
            self.asleep = [False] * len(self.asleep)
            able = [t for t, done in enumerate(self.finished) if not done]
            able = able[1:] or able
        if not able:
            if all(self.finished):
                return
            self.broken = AssertionError("all sleep")
            self.asleep = [False] * len(self.asleep)
            able = [t for t, done in enumerate(self.finished) if not done]
        self.running = self.random.choice(able)
        if self.running != me:
            self.batons[self.running].release()
            if not self.finished[me]:
                self.batons[me].acquire()
        if self.broken and not self.finished[me]:
            raise self.broken

    def word(self, address: int, index: int) -> int:
        self.turn()
        return self.memory[address + 8 * index]

    def atomic_load(self, address: int) -> int:
        return self.word(address, 0)

    def atomic_store(self, address: int, value: int) -> None:
        self.turn()
        self.memory[address] = value

    def atomic_add(self, address: int, value: int) -> int:
        self.turn()
        self.memory[address] += value
        return self.memory[address] - value

    def compare_exchange(self, address: int, expected: int, value: int) -> int:
        self.turn()
        if self.memory[address] != expected:
            return 0
        self.memory[address] = value
        return 1

    def pause(self) -> None:
        self.turn(must=True)

    def write_time(self, function: int, out: int) -> None:
        assert function == CLOCK
        self.turn()
        self.stamped.append((out - STAMPS) // STAMP_BYTES)

    def call_pointer(self, function: int, argument: int) -> int:
        if function == SLEEP:
            self.asleep[argument] = self.wakes[argument] == 0
            self.turn(must=True)
            self.wakes[argument] -= 1
        elif function == WAKE:
            self.asleep[argument] = False
            self.wakes[argument] += 1
        else:
            self.turn(must=True)
        return 0

    def start(self, thread: int, target: Any, *arguments: Any) -> threading.Thread:
        def life() -> None:
            self.batons[thread].acquire()
            try:
                target(*arguments)
            except AssertionError as error:
                self.broken = self.broken or error
            self.finished[thread] = True
            self.give_away(thread)

        started = threading.Thread(target=life, daemon=True)
        started.start()
        return started


class Steps:
    """Steps of a few phases whose sizes the plan gives, each phase with a number of items of its own. Each
    step has its table of phases somewhere else: who mixes two plans, reads where there is none."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.done: Counter[tuple[int, int, int]] = Counter()
        self.phases: dict[int, Any] = {}  # by address

    def phase_at(self, address: int) -> Any:
        assert address in self.phases, "no phase is there"
        return self.phases[address]

    def items(self, _: int, plan: Any, phase: Any) -> int:
        return int(plan.step.n_tokens)

    def compute(self, _: int, plan: Any, worker: Any, phase: Any, first: int, count: int) -> None:
        number = plan.step.n_spans  # stands for what a phase reads of its step
        for item in range(first, first + count):
            self.machine.turn()
            self.done[number, phase.index, item] += 1

    def caller(self) -> None:
        """What the model does: change the plan word by word, run it, and look at what became of it."""
        machine, plan = self.machine, self.machine.plan
        for number in range(4):
            size = machine.random.choice([1, 2, 5, 9])
            phases = machine.random.choice([1, 3, 8])
            table = TABLES + number * 100 * PHASE_BYTES
            for i in range(phases):
                self.phases[table + i * PHASE_BYTES] = SimpleNamespace(kind=0, least=1, index=i)
            plan.step.phases = table
            for _ in range(12):  # the other words of a plan, while a late helper may read a mixed one
                machine.turn()
            plan.step.n_tokens, plan.step.n_spans, plan.step.n_phases = size, number, phases
            schedule.atomic_store(SHARED + ALONE, 0)
            step_module.run(plan)
            wanted = {(number, i, item): 1 for i in range(phases) for item in range(size)}
            assert self.done == wanted
            self.done.clear()
            assert machine.stamped == [*range(phases + 1)]  # each phase's opening and the end, in their order
            machine.stamped.clear()
        schedule.stop(plan)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_every_item_is_computed_once_in_any_order_of_events(
    n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hundred orders of events. A helper that took items of a step that was over, or waited for one
    that never came, fails it, and so does one that sleeps through its waking."""
    for seed in range(600 // n_threads):
        machine = Machine(seed, n_threads)
        steps = Steps(machine)
        for module in (schedule, step_module):
            for name in (*OPERATIONS, "call_pointer", "write_time"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(machine, name))
        for module in (schedule, step_module):
            monkeypatch.setattr(module, "reads_before", lambda: None)
        monkeypatch.setattr(step_module, "phase_at", steps.phase_at)
        monkeypatch.setattr(step_module, "worker_at", lambda thread: SimpleNamespace(thread=thread))
        monkeypatch.setattr(step_module, "ITEMS", steps.items)
        monkeypatch.setattr(step_module, "COMPUTE", steps.compute)
        monkeypatch.setattr(step_module, "fetch_ahead", lambda *_: None)
        monkeypatch.setattr(step_module, "IDLE_LOOKS", 3)
        monkeypatch.setattr(schedule, "SPINS", 4)
        monkeypatch.setattr(schedule, "PATIENCE", 10)
        lives = [machine.start(t, step_module.helper, machine.plan, t) for t in range(1, n_threads)]
        lives.append(machine.start(0, steps.caller))
        machine.batons[0].release()
        for life in lives:
            life.join(60)
        if machine.broken:
            raise AssertionError(f"seed {seed}") from machine.broken
        assert not any(life.is_alive() for life in lives)


@pytest.mark.parametrize(
    ("thread", "n_tokens", "loses"), [(0, 1, True), (0, 8, True), (0, 128, False), (1, 1, False)]
)
def test_patience_is_the_callers_and_grows_with_the_tokens(
    thread: int, n_tokens: int, loses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread's share of a prompt may end later than another's by more than a token's patience."""
    memory: Counter[int] = Counter()
    looks = 0

    def load(address: int) -> int:
        nonlocal looks
        looks += address == SHARED + CURRENT
        if looks > 100:
            memory[SHARED + CURRENT] = 8
        return memory[address]

    monkeypatch.setattr(schedule, "atomic_load", load)
    monkeypatch.setattr(schedule, "atomic_store", memory.__setitem__)
    monkeypatch.setattr(schedule, "pause", lambda: None)
    monkeypatch.setattr(schedule, "call_pointer", lambda *_: 0)
    monkeypatch.setattr(schedule, "SPINS", 4)
    monkeypatch.setattr(schedule, "PATIENCE", 10)
    plan: Any = SimpleNamespace(shared=SHARED, give_way=0, step=SimpleNamespace(n_tokens=n_tokens))
    assert schedule.wait(plan, thread, 7, 9) == 8
    assert looks > 100
    assert memory[SHARED + ALONE] == loses
