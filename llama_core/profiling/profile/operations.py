"""The operations of one reply as tables whose rows add up to what the engine's own clock measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.backends.base import Model
from llama_core.backends.numpy.model import Llama
from llama_core.engine.engine import Engine
from llama_core.events import Finished, TokenEvent
from llama_core.profiling.profile.op_timers import OperationTimes, OpTimers, clock_cost_s
from llama_core.sampling.params import SamplingParams

# Python's part: embedding, views, residual sums, the sampler, the engine.
BETWEEN = "between operations"


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation: seconds over all layers, its percentage of the whole, its calls, and the seconds of each
    layer (NO_LAYER: of none)."""

    name: str
    seconds: float
    percent: float
    calls: int
    by_layer: dict[int, float]


@dataclass(frozen=True, slots=True)
class OperationTable:
    """rows: the most expensive first, what lies between operations among them; their seconds add up to
    `total_s`, the engine's own measure. clocks_s: what looking at the clock took of it, as estimated."""

    total_s: float
    rows: tuple[OperationRow, ...]
    clocks_s: float


def profile_operations(engine: Engine, ids: Sequence[int], n: int) -> dict[str, OperationTable]:
    """Tables of "prefill" (up to the first token drawn) and "decode" (from there to the last of n tokens),
    for a greedy reply from an empty context, by a model of the same weights with clocks in it.

    Of a prompt the compiled model's phases are whole layers; its table "prefill by operation" is of one more
    reply, for which threads share each operation out.
    """
    timers = OpTimers()
    measured = engine.model
    if isinstance(measured, Llama):
        clocks_s = clock_cost_s()
        timed = Llama(measured.config, measured.weights, measured.threads, timers.operations)
        return _tables(timed, ids, n, timers, clocks_s)
    from llama_core.backends.jit.model import JitLlama
    from llama_core.backends.jit.workspace import Tuning

    assert isinstance(measured, JitLlama)
    tables = _tables(measured.observed(timers), ids, n, timers)
    by_operation = measured.observed(timers, Tuning(wide_tokens=sys.maxsize))
    return {**tables, "prefill by operation": _tables(by_operation, ids, 2, timers)["prefill"]}


def _tables(
    timed: Model, ids: Sequence[int], n: int, timers: OpTimers, clock_s: float = 0.0
) -> dict[str, OperationTable]:
    """Of a reply by a model that `timers` see, which is closed. clock_s: what one look at the clock takes."""
    try:
        engine = Engine(timed, len(ids) + n)
        params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
        engine.prompt_logits(ids)  # the first pass pays for pages and caches
        engine.reset()
        timers.take()
        prefill = OperationTimes()
        for event in engine.generate(ids, params):
            if isinstance(event, TokenEvent) and event.index == 0:
                prefill = timers.take()
            elif isinstance(event, Finished):
                timings = event.timings
    finally:
        timed.close()
    return {
        "prefill": operation_table(prefill, timings.ttft_s, clock_s),
        "decode": operation_table(timers.take(), timings.predicted_s, clock_s),
    }


def operation_table(times: OperationTimes, total_s: float, clock_s: float = 0.0) -> OperationTable:
    """What the timers saw within `total_s` seconds. clock_s: what one look at the clock takes."""
    seconds = {name: times.total(name) for name in times.calls}
    rows = [
        OperationRow(name, s, percent(s, total_s), times.calls[name], times.by_layer(name))
        for name, s in seconds.items()
    ]
    between = total_s - sum(times.seconds.values())
    rows.append(OperationRow(BETWEEN, between, percent(between, total_s), 0, {}))
    rows.sort(key=lambda row: -row.seconds)
    return OperationTable(total_s, tuple(rows), clock_s * sum(times.calls.values()))


def percent(part: float, whole: float) -> float:
    """`part` of `whole` in percent: never above 100 for a part, and 100 for all of it.

    The quotient comes first: `100 * x / x` rounds twice and may give 99.99999999999999.
    """
    return 100 * (part / whole) if whole > 0 else 0.0
