"""The operations of one reply as tables whose rows add up to what the engine's own clock measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llama_core.backends.numpy.model import Llama
from llama_core.cores import usable_cores
from llama_core.engine.engine import Engine
from llama_core.events import Finished, Timings, TokenEvent
from llama_core.profiling.profile.op_timers import OperationTimes, clock_cost_s, timed_operations
from llama_core.sampling import SamplingParams

BETWEEN = "between passes"


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
    """rows: the most expensive first, the engine's work between passes among them; their seconds add up to
    `total_s`, the engine's own measure. clocks_s: what looking at the clock took of it, as estimated."""

    total_s: float
    rows: tuple[OperationRow, ...]
    clocks_s: float


def profile_operations(engine: Engine, ids: Sequence[int], n: int) -> dict[str, OperationTable]:
    """Tables of "prefill" (up to the first token drawn) and "decode" (from there to the last of n tokens),
    for a greedy reply from an empty context. The compiled model's have whole layers; for it, two more have
    the operations within them ("prefill, watched", "decode, watched"), where there is a core to watch from.
    """
    with timed_operations(engine.model) as timers:
        prefill, decode, timings = _reply(engine, ids, n, timers.take)
    tables = {
        "prefill": operation_table(prefill, timings.ttft_s),
        "decode": operation_table(decode, timings.predicted_s),
    }
    if not isinstance(engine.model, Llama) and usable_cores() > 1:
        from llama_core.profiling.profile.phase_watch import watched_operations

        with watched_operations(engine.model) as take:  # type: ignore[arg-type]  # the other one is compiled
            prefill, decode, _ = _reply(engine, ids, n, take)
        tables["prefill, watched"] = watched_table(prefill)
        tables["decode, watched"] = watched_table(decode)
    return tables


def _reply(
    engine: Engine, ids: Sequence[int], n: int, take: Callable[[], OperationTimes]
) -> tuple[OperationTimes, OperationTimes, Timings]:
    """What was taken when the first token was drawn, and at the end of a reply, with its own timings."""
    engine.reset()
    params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
    prefill = OperationTimes()
    for event in engine.generate(ids, params):
        if isinstance(event, TokenEvent) and event.index == 0:
            prefill = take()
        elif isinstance(event, Finished):
            timings = event.timings
    return prefill, take(), timings


def watched_table(times: OperationTimes) -> OperationTable:
    """What a watcher saw of the steps; their sum is the whole."""
    total_s = sum(times.seconds.values())
    return OperationTable(total_s, tuple(_rows(times, total_s)), 0.0)


def operation_table(times: OperationTimes, total_s: float) -> OperationTable:
    """What the timers saw within `total_s` seconds."""
    between = total_s - sum(times.seconds.values())
    rows = [*_rows(times, total_s), OperationRow(BETWEEN, between, percent(between, total_s), 0, {})]
    rows.sort(key=lambda row: -row.seconds)
    return OperationTable(total_s, tuple(rows), clock_cost_s() * sum(times.calls.values()))


def _rows(times: OperationTimes, total_s: float) -> list[OperationRow]:
    """The most expensive first."""
    seconds = {name: times.total(name) for name in times.calls}
    rows = [
        OperationRow(name, s, percent(s, total_s), times.calls[name], times.by_layer(name))
        for name, s in seconds.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def percent(part: float, whole: float) -> float:
    """`part` of `whole` in percent: never above 100 for a part, and 100 for all of it.

    The quotient comes first: `100 * x / x` rounds twice and may give 99.99999999999999.
    """
    return 100 * (part / whole) if whole > 0 else 0.0
