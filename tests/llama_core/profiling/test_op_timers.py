"""Operation timers: each second once, for the right operation and layer, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core import sampling
from llama_core.backends.numpy import attention, model
from llama_core.engine import reply
from llama_core.engine.clock import EngineClock
from llama_core.engine.context import Context
from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import operations as operation_profile
from llama_core.profiling.profile.inference import generate
from llama_core.profiling.profile.op_timers import OpTimers, clock_cost_s, timed_operations


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
LINEAR_S, NORM_S, ROTATE_S, DRAW_S, ATTEND_S, HEAD_S, EXTEND_S = (2.0**-i for i in range(7))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    slowed = (
        (model, "linear", LINEAR_S),
        (model, "rms_norm", NORM_S),
        (attention, "rotate", ROTATE_S),
        (sampling.Sampler, "draw", DRAW_S),
        (model.Llama, "_mix", ATTEND_S),
        (model.Llama, "_head", HEAD_S),
        (Context, "extend", EXTEND_S),
    )
    for place, name, seconds in slowed:
        monkeypatch.setattr(place, name, clock.slow(getattr(place, name), seconds))
    monkeypatch.setattr(reply, "EngineClock", lambda: EngineClock(clock.now))
    timed = operation_profile.timed_operations
    monkeypatch.setattr(operation_profile, "timed_operations", lambda measured: timed(measured, clock.now))
    return clock


@pytest.mark.parametrize(("phase", "passes"), [("prefill", 1), ("decode", 4)])
def test_the_rows_are_exact_and_add_up_to_the_measured_phase(
    engine: TextEngine, clock: Clock, phase: str, passes: int
) -> None:
    n_layers = engine.model.config.n_layers
    table = operation_profile.profile_operations(engine.engine, list(range(40)), 5)[phase]
    layers = passes * n_layers
    expected = {
        "attention products": (2 * layers * LINEAR_S, 2 * layers),
        "feed-forward products": (2 * layers * LINEAR_S, 2 * layers),
        "attention": (layers * ATTEND_S, layers),
        "feed-forward": (0.0, layers),
        "RoPE": (layers * ROTATE_S, layers),
        "norm": ((2 * layers + passes) * NORM_S, 2 * layers + passes),
        "head": (passes * (HEAD_S + LINEAR_S), passes),
        "sampler": (passes * DRAW_S, passes),
        "rest of a pass": (0.0, passes),
        operation_profile.BETWEEN: (passes * EXTEND_S, 0),
    }
    assert {row.name: (row.seconds, row.calls) for row in table.rows} == expected
    assert table.total_s == sum(row.seconds for row in table.rows)
    assert sum(row.percent for row in table.rows) == pytest.approx(100)


def test_the_seconds_of_every_layer_are_its_own(engine: TextEngine, clock: Clock) -> None:
    table = operation_profile.profile_operations(engine.engine, list(range(40)), 2)["prefill"]
    rows = {row.name: row.by_layer for row in table.rows}
    layers = range(engine.model.config.n_layers)
    assert rows["attention products"] == rows["feed-forward products"] == dict.fromkeys(layers, 2 * LINEAR_S)
    assert rows["RoPE"] == dict.fromkeys(layers, ROTATE_S)
    assert rows["feed-forward"] == dict.fromkeys(layers, 0.0)
    assert rows["norm"] == {-1: NORM_S, **dict.fromkeys(layers, 2 * NORM_S)}
    for name in ("head", "sampler", "rest of a pass"):
        assert list(rows[name]) == [-1]


def test_on_a_real_clock_no_second_is_counted_twice(engine: TextEngine) -> None:
    for table in operation_profile.profile_operations(engine.engine, list(range(40)), 5).values():
        assert min(row.seconds for row in table.rows) >= 0  # what is left for BETWEEN too
        assert sum(row.seconds for row in table.rows) == pytest.approx(table.total_s)


def test_the_compiled_model_is_timed_by_layer_and_computes_the_same(compiled: TextEngine) -> None:
    ids = list(range(40))
    _, alone = generate(compiled.engine, ids, 5)
    logits = compiled.engine.prompt_logits(ids)
    compiled.reset()
    with timed_operations(compiled.model) as timers:
        again = compiled.engine.prompt_logits(ids)
        times = timers.take()
        _, timed = generate(compiled.engine, ids, 5)
    assert timed == alone
    np.testing.assert_array_equal(again, logits)
    layers = list(range(compiled.model.config.n_layers))
    n = len(layers)
    assert list(times.by_layer("layer")) == layers
    # Of a prompt, whole layers: the first begins by itself, and each but the last begins the next one.
    assert (times.calls["layer"], times.calls["head"], times.calls["rest of a pass"]) == (n + 1, 2, 1)
    table = operation_profile.profile_operations(compiled.engine, ids, 5)["decode"]
    assert min(row.seconds for row in table.rows) >= 0
    calls = {row.name: row.calls for row in table.rows}
    assert {calls[name] for name in ("norm, QKV product", "RoPE, cache, attention", "down product")} == {
        4 * n
    }


def wrapped() -> list[object]:
    return [
        model.linear,
        model.rms_norm,
        attention.rotate,
        model.Llama._mix,
        model.Llama._pass,
        sampling.Sampler.draw,
    ]


def test_timers_are_removed_even_after_a_failure(engine: TextEngine) -> None:
    originals = wrapped()
    with timed_operations(engine.model):
        assert all(now is not before for now, before in zip(wrapped(), originals, strict=True))
    bad, cache = np.array([9999], np.int32), engine.model.new_cache(4)
    with pytest.raises(ValueError, match="token ids"), timed_operations(engine.model):
        engine.model.forward(bad, cache)
    assert wrapped() == originals


def test_time_inside_another_operation_is_its_own() -> None:
    clock = Clock()
    timers = OpTimers(clock.now)
    inner = timers.wrap("inner", clock.slow(lambda: None, 3.0))
    outer = timers.wrap("outer", clock.slow(lambda: [inner() for _ in range(2)], 1.0))
    outer()
    taken = timers.take()
    assert (taken.total("inner"), taken.total("outer")) == (6.0, 1.0)
    assert taken.calls == {"inner": 2, "outer": 1}
    assert timers.take().calls == {}


def test_looking_at_the_clock_has_a_price() -> None:
    assert clock_cost_s(200) > 0
