"""How threads share a step: phases, claims, and waiting that gives way.

A step is a row of phases, numbered through all steps ever run. A phase is a number of items that may be
computed in any order by any thread. Each thread has a range of them, its share, and a cursor into it:

    items    | thread 0's share           | thread 1's share           |
             | done, taken ->             | done, taken ->             |
    cursor   phase << 24 | next item      one word, in a cache line of its own

    claim    compare-and-swap moves one's own cursor on, without disturbing anybody; when the own share is
             used up, that of another thread, a little at a time
    finish   adds up the items done; whoever completes a phase opens the next one
    wait     until the next phase is open

A cursor left over from an earlier phase stands for an untouched share, so nothing is reset between phases,
and a claim for a phase that is over fails because the cursor has reached the end of the share or is already
in a later phase. A helper that comes late, or never, costs nothing but its help. Only one that the system
takes off its core between claim and finish holds the others up, and only until `wait` loses patience: the
caller then works alone for a while (`ALONE`, see `threads.py`), which on a busy machine is faster than
waiting for a core that others use. Patience grows with a step's tokens, as the work of an item does: of an
8B model's prompt one thread's share of a layer takes 80 ms, and often ends some milliseconds after the
other's. With the patience of one token its prompts were 0.88 times as fast.

A helper that was away may come back when its step is over and the plan is another's, or half written. What
it has read since is not to be trusted: a `total` of the new plan, say, gives a share where the old phase had
none, and there a cursor still stands for untouched. Nobody waits for such helpers. Instead:

    the plan changes only while CURRENT has reached END, the end of the last step
    a helper knows its step by that end: it reads END first, then the plan (`step.py`)
    claim looks at CURRENT after everything it builds on was read; below the helper's end, its step goes on,
    and what was read is its step's. If the step ends between the look and the compare-and-swap, then all of
    the phase was claimed, and by the right total the swap fails

So whoever has claimed something has read the right plan, and until `finish` no other can take its place.

Compiled by Numba, like all functions of this folder (`build/control_code.py`).
"""

from __future__ import annotations

from llama_core.backends.jit.control.records import (
    ALONE,
    CURRENT,
    CURSORS,
    DONE,
    END,
    SLEEPING,
    STAMP_BYTES,
    STOP,
    Plan,
)
from llama_core.backends.jit.kernels.primitives import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_pointer,
    compare_exchange,
    pause,
    reads_before,
    word,
    write_time,
)
from llama_core.backends.jit.layout import LINE_BYTES

ITEM_BITS = 24
ITEM_MASK = (1 << ITEM_BITS) - 1
# A waiting thread first spins (a phase is over within microseconds when all threads run), then yields its
# core between looks. Both numbers count looks; patience is for one token, some 2 ms.
SPINS = 3000
PATIENCE = 4000


def claim(plan: Plan, thread: int, phase: int, end: int, total: int, least: int) -> int:
    """Take some of the phase's `total` items: first << 24 | count, or -1 where none is left.

    Half of what is left of one's own share at once, but at least `least`; of others' shares less. `end` is
    the phase after the last one of the thread's step: from there on the plan is another step's.
    """
    shared, threads = plan.shared, plan.n_threads
    alone = atomic_load(shared + ALONE)
    reads_before()
    if phase >= end or atomic_load(shared + CURRENT) >= end or (alone and thread):
        return -1
    for k in range(threads):
        owner = (thread + k) % threads
        cursor = shared + CURSORS + owner * LINE_BYTES
        stop = (owner + 1) * total // threads
        while True:
            ticket = atomic_load(cursor)
            first = ticket & ITEM_MASK
            if ticket >> ITEM_BITS < phase:
                first = owner * total // threads
            elif ticket >> ITEM_BITS > phase:
                return -1
            left = stop - first
            if left <= 0:
                break
            count = left
            if alone == 0:
                count = min(left, max(least, left // 2)) if k == 0 else max(1, left // 4)
            if compare_exchange(cursor, ticket, phase << ITEM_BITS | (first + count)):
                return first << ITEM_BITS | count
    return -1


def finish(plan: Plan, phase: int, total: int, count: int) -> None:
    """`count` claimed items are done; the last of a phase's items opens the next phase."""
    shared = plan.shared
    if count and atomic_add(shared + DONE, count) + count == total:
        atomic_store(shared + DONE, 0)
        stamp(plan, phase + 1)
        atomic_store(shared + CURRENT, phase + 1)


def stamp(plan: Plan, phase: int) -> None:
    """Note the time at which a phase opens, where a profiler asks for it (`phase_clock.py`)."""
    if plan.clock:
        write_time(plan.clock, plan.stamps + (phase - plan.step.first_number) * STAMP_BYTES)


def wait(plan: Plan, thread: int, phase: int, end: int) -> int:
    """Wait until `phase` is over; returns the phase to go on with, `end` for a helper that is to leave.

    From `end` on there is nothing to wait for: no other step may follow, and a helper that waited for one
    would not hear that it is to stop.
    """
    if phase >= end:
        return end
    shared = plan.shared
    looks = 0
    while atomic_load(shared + CURRENT) <= phase:
        if thread and atomic_load(shared + ALONE):
            return end
        looks += 1
        if looks < SPINS:
            pause()
        else:
            call_pointer(plan.give_way, 0)
            if thread == 0 and looks == SPINS + PATIENCE * plan.step.n_tokens:
                atomic_store(shared + ALONE, 1)
    return phase + 1


def sleep(plan: Plan, thread: int) -> None:
    """Sleep until the next step (or a spurious wake-up: the caller looks again)."""
    shared = plan.shared
    atomic_store(shared + SLEEPING + thread * LINE_BYTES, 1)
    # The step may have begun between the last look and the line above; then nobody will wake us.
    if atomic_load(shared + STOP) == 0 and not has_work(plan):
        call_pointer(plan.sleep, word(plan.sleep_arguments, thread))
    compare_exchange(shared + SLEEPING + thread * LINE_BYTES, 1, 0)


def wake_helpers(plan: Plan) -> None:
    """Wake the helpers that sleep."""
    shared = plan.shared
    for thread in range(1, plan.n_threads):
        if compare_exchange(shared + SLEEPING + thread * LINE_BYTES, 1, 0):
            call_pointer(plan.wake, word(plan.sleep_arguments, thread))


def stop(plan: Plan) -> None:
    """Tell the helpers to return."""
    atomic_store(plan.shared + STOP, 1)
    wake_helpers(plan)


def has_work(plan: Plan) -> bool:
    """Whether a step is under way that helpers may join."""
    shared = plan.shared
    return atomic_load(shared + CURRENT) < atomic_load(shared + END) and atomic_load(shared + ALONE) == 0
