"""Operation timers: each second once, for the right operation and layer, in the profiler's model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy.clocked import NAMES
from llama_core.backends.numpy.decoder import PLAIN, Operations
from llama_core.backends.numpy.model import Llama
from llama_core.engine.clock import EngineClock
from llama_core.engine.context import Context
from llama_core.engine.reply import decoding
from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import operations as operation_profile
from llama_core.profiling.profile.inference import generate
from llama_core.profiling.profile.op_timers import OpTimers, clock_cost_s
from llama_core.profiling.profile.operations import profile_operations

IDS = list(range(40))


class Clock:
    """Time passes only where a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def slow(self, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def slowed(*arguments: Any, **keywords: Any) -> Any:
            self.now_s += seconds
            return function(*arguments, **keywords)

        return slowed


# What each call of these takes: powers of two, so that sums are exact and tell what they are made of.
SECONDS = {f.name: 2.0**-i for i, f in enumerate(fields(Operations))}
EXTEND_S = 2.0 ** -len(SECONDS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The profiler's clock and the engine's; the model's operations take their SECONDS."""
    clock = Clock()
    slowly = replace(PLAIN, **{name: clock.slow(getattr(PLAIN, name), s) for name, s in SECONDS.items()})

    class Timers(OpTimers):
        def __init__(self) -> None:
            super().__init__(clock.now)

        def operations(self, layer: int, plain: Operations = slowly) -> Operations:
            return super().operations(layer, plain)

    monkeypatch.setattr(operation_profile, "OpTimers", Timers)
    monkeypatch.setattr(Context, "extend", clock.slow(Context.extend, EXTEND_S))
    monkeypatch.setattr(decoding, "EngineClock", lambda: EngineClock(clock.now))
    return clock


@pytest.mark.parametrize(("phase", "passes"), [("prefill", 1), ("decode", 4)])
def test_the_rows_are_exact_and_add_up_to_the_measured_phase(
    engine: TextEngine, clock: Clock, phase: str, passes: int
) -> None:
    table = profile_operations(engine.engine, IDS, 5)[phase]
    layers = passes * engine.model.config.n_layers
    calls = {
        "norm": 2 * layers + passes,
        "attention_product": 2 * layers,
        "norm_and_rotate": layers,
        "attend": layers,
        "feed_forward_product": 2 * layers,
        "gated": layers,
        "head_product": passes,
    }
    expected = {NAMES[name]: (n * SECONDS[name], n) for name, n in calls.items()}
    expected[operation_profile.BETWEEN] = (passes * EXTEND_S, 0)
    assert {row.name: (row.seconds, row.calls) for row in table.rows} == expected
    assert table.total_s == sum(row.seconds for row in table.rows)
    assert sum(row.percent for row in table.rows) == pytest.approx(100)


def test_the_seconds_of_every_layer_are_its_own(engine: TextEngine, clock: Clock) -> None:
    rows = {row.name: row.by_layer for row in profile_operations(engine.engine, IDS, 2)["prefill"].rows}
    layers = range(engine.model.config.n_layers)
    assert rows["attention products"] == dict.fromkeys(layers, 2 * SECONDS["attention_product"])
    assert rows["RoPE"] == dict.fromkeys(layers, SECONDS["norm_and_rotate"])
    assert rows["norm"] == {-1: SECONDS["norm"], **dict.fromkeys(layers, 2 * SECONDS["norm"])}
    assert rows["head"] == {-1: SECONDS["head_product"]}


def test_on_a_real_clock_no_second_is_counted_twice(engine: TextEngine) -> None:
    for table in profile_operations(engine.engine, IDS, 5).values():
        assert min(row.seconds for row in table.rows) >= 0  # what is left for BETWEEN too
        assert sum(row.seconds for row in table.rows) == pytest.approx(table.total_s)


def test_a_timed_model_computes_the_same_and_the_engine_s_own_is_left_alone(engine: TextEngine) -> None:
    own = engine.model
    assert isinstance(own, Llama)
    wanted = engine.engine.prompt_logits(IDS)
    timers = OpTimers()
    timed = Llama(own.config, own.weights, operations=timers.operations)
    np.testing.assert_array_equal(timed.forward(np.array(IDS, np.int32), timed.new_cache(64)), wanted)
    assert set(timers.take().calls) == set(NAMES.values())
    engine.reset()
    engine.engine.prompt_logits(IDS)
    assert timers.take().calls == {}


def test_the_compiled_model_s_phases_add_up_to_the_measured_reply(compiled: TextEngine) -> None:
    _, alone = generate(compiled.engine, IDS, 5)
    tables = profile_operations(compiled.engine, IDS, 5)
    assert generate(compiled.engine, IDS, 5)[1] == alone
    n = compiled.model.config.n_layers
    calls = {name: {row.name: row.calls for row in table.rows} for name, table in tables.items()}
    # Of a prompt, whole layers: the first begins by itself, and each but the last begins the next one.
    assert calls["prefill"] == {"layer": n + 1, "head": 2, operation_profile.BETWEEN: 0}
    assert calls["decode"]["RoPE, cache, attention"] == 4 * n
    assert calls["prefill by operation"]["RoPE of queries, attention"] == n
    for table in tables.values():
        # Two clocks, one of which a system may set meanwhile: by microseconds, where it is kept by others.
        assert min(row.seconds for row in table.rows) > -1e-4
        assert sum(row.seconds for row in table.rows) == pytest.approx(table.total_s)


def test_looking_at_the_clock_has_a_price() -> None:
    assert clock_cost_s(200) > 0
