"""The rules by which threads share a step, under orders of events that a processor shows once in a million.

The functions are the ones that are compiled, run here as Python: each read, write and atomic operation is a
point at which a seeded scheduler may let another thread go on, or leave one away for a long time.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest

from llama_core.backends.jit.control import fields, schedule
from llama_core.backends.jit.control import step as step_module

PLAN, SHARED, ARGUMENTS = 1 << 40, 1 << 41, 1 << 42
SLEEP, WAKE, YIELD = 1, 2, 3
OPERATIONS = ("word", "atomic_load", "atomic_store", "atomic_add", "compare_exchange", "pause")


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
        self.finished = [False] * n_threads
        self.away = -1
        self.running = 0
        self.operations = 0
        self.broken: AssertionError | None = None
        # As in a workspace: phase 0 is over, and every cursor is left over from it.
        self.memory[SHARED + fields.CURRENT] = self.memory[SHARED + fields.END] = 1
        self.put(fields.SHARED, SHARED)
        self.put(fields.THREADS, n_threads)
        for field, function in ((fields.SLEEP, SLEEP), (fields.WAKE, WAKE), (fields.YIELD, YIELD)):
            self.put(field, function)
        self.put(fields.SLEEP_ARGUMENTS, ARGUMENTS)
        for thread in range(n_threads):
            self.memory[ARGUMENTS + 8 * thread] = thread

    def put(self, field: int, value: int) -> None:
        self.memory[PLAN + 8 * field] = value

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
    """Steps of a few phases whose sizes the plan gives, each phase with a number of items of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.done: Counter[tuple[int, int, int]] = Counter()

    def step(self, plan: int, thread: int) -> None:
        end = schedule.atomic_load(SHARED + fields.END)
        phase = schedule.word(plan, fields.FIRST_PHASE)
        for i in range(schedule.word(plan, fields.LAST_LAYER)):
            total, number = schedule.word(plan, fields.N), schedule.word(plan, fields.N_SPANS)
            done = 0
            while (claimed := schedule.claim(plan, thread, phase, end, total, 1)) >= 0:
                first, count = claimed >> schedule.ITEM_BITS, claimed & schedule.ITEM_MASK
                for item in range(first, first + count):
                    self.machine.turn()
                    self.done[number, i, item] += 1
                done += count
            schedule.finish(plan, phase, total, done)
            phase = schedule.wait(plan, thread, phase, end)

    def caller(self) -> None:
        """What the model does: change the plan word by word, run it, and look at what became of it."""
        machine = self.machine
        for number in range(4):
            size = machine.random.choice([1, 2, 5, 9])
            phases = machine.random.choice([1, 3, 8])
            for field, value in ((fields.N, size), (fields.N_SPANS, number), (fields.LAST_LAYER, phases)):
                machine.turn()
                machine.put(field, value)
            schedule.atomic_store(SHARED + fields.ALONE, 0)
            step_module.run(PLAN)
            wanted = {(number, i, item): 1 for i in range(phases) for item in range(size)}
            assert self.done == wanted
            self.done.clear()
        schedule.stop(PLAN)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_every_item_is_computed_once_in_any_order_of_events(
    n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred orders of events. A helper that took items of a step that was over, or waited for one
    that never came, fails it, and so does one that sleeps through its waking."""
    for seed in range(300):
        machine = Machine(seed, n_threads)
        steps = Steps(machine)
        for module in (schedule, step_module):
            for name in (*OPERATIONS, "call_pointer"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(machine, name))
        monkeypatch.setattr(step_module, "step", steps.step)
        monkeypatch.setattr(step_module, "IDLE_LOOKS", 3)
        monkeypatch.setattr(step_module, "LARGE_PHASES", 1)
        monkeypatch.setattr(schedule, "SPINS", 4)
        monkeypatch.setattr(schedule, "PATIENCE", 10)
        lives = [machine.start(t, step_module.helper, PLAN, t) for t in range(1, n_threads)]
        lives.append(machine.start(0, steps.caller))
        machine.batons[0].release()
        for life in lives:
            life.join(60)
        if machine.broken:
            raise AssertionError(f"seed {seed}") from machine.broken
        assert not any(life.is_alive() for life in lives)
