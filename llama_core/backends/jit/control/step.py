"""A step: a table of phases, which every thread runs from its first line to its last.

    caller     run: opens the step, wakes the helpers      for each phase: claim items, compute them,
    helpers    helper: wait for a step, join it            add up what is done, wait for the next

The loop is here and nowhere else; what the items of a phase are, and how one is computed, is in `phases.py`;
the table is made by `program.py`.
"""

from __future__ import annotations

from llama_core.backends.jit.control.phases import COMPUTE, ITEMS
from llama_core.backends.jit.control.products import fetch_ahead
from llama_core.backends.jit.control.records import (
    ALONE,
    CURRENT,
    END,
    PHASE_BYTES,
    STOP,
    Phase,
    Plan,
    Worker,
    phase_at,
    worker_at,
)
from llama_core.backends.jit.control.schedule import (
    ITEM_BITS,
    ITEM_MASK,
    claim,
    finish,
    has_work,
    sleep,
    stamp,
    wait,
    wake_helpers,
)
from llama_core.backends.jit.kernels.primitives import atomic_load, atomic_store, pause, reads_before

# A helper that has nothing to do looks this often before it sleeps: some 50 us, the caller's pause between
# two calls, but not a sampler's.
IDLE_LOOKS = 2000


def helper(plan: Plan, thread: int) -> None:
    """A helper thread's life: join every step, sleep between them, return when told to stop."""
    shared = plan.shared
    looks = 0
    while atomic_load(shared + STOP) == 0:
        if has_work(plan):
            step(plan, thread)
            looks = 0
        elif looks < IDLE_LOOKS:
            looks += 1
            pause()
        else:
            sleep(plan, thread)
            looks = 0


def run(plan: Plan) -> None:
    """Open the planned step, wake the helpers, and do what they leave: what the caller's thread runs."""
    shared = plan.shared
    first = atomic_load(shared + CURRENT)
    plan.step.first_number = first
    stamp(plan, first)
    # In this order: whoever sees the new end, which opens the step, also sees the plan.
    atomic_store(shared + END, first + plan.step.n_phases)
    if atomic_load(shared + ALONE) == 0:
        wake_helpers(plan)
    step(plan, 0)


def step(plan: Plan, thread: int) -> None:
    """All phases of the planned step."""
    end = atomic_load(plan.shared + END)
    number, phases, n_phases = plan.step.first_number, plan.step.phases, plan.step.n_phases
    reads_before()
    if atomic_load(plan.shared + CURRENT) >= end:
        return  # the step is over, and what was read may be another's
    worker = worker_at(plan.workers + thread * plan.worker_stride)
    for i in range(n_phases):
        if number < end:
            number = run_phase(plan, worker, phase_at(phases + i * PHASE_BYTES), number, end)


def run_phase(plan: Plan, worker: Worker, phase: Phase, number: int, end: int) -> int:
    """Take part in a phase until it is over. number: the phase's, counted through all steps; end: the number
    after the step's last. Returns the number to go on with."""
    total = ITEMS(phase.kind, plan, phase)
    least = phase.least if plan.step.n_tokens == 1 else 1
    worker.is_grouped, worker.is_prepared, worker.gathered, worker.foldable = 0, 0, -1, -1
    done = 0
    while True:
        claimed = claim(plan, worker.thread, number, end, total, least)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        COMPUTE(phase.kind, plan, worker, phase, first, count)
        done += count
    finish(plan, number, total, done)
    fetch_ahead(plan, worker, phase)
    return wait(plan, worker.thread, number, end)
