"""What a watch adds up: nothing while it is off, and every second once while it is on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from llama_core.backends.step_watch import EVERY, StepWatch, call_cost_s

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Named:
    operation: str
    layer: int


class Clock:
    """Each look takes a second."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_calls_count_only_while_it_is_on() -> None:
    watch = StepWatch(Clock())
    double = watch.wrap("product", 1, lambda x: 2 * x)
    norm = watch.wrap("norm", -1, lambda: None)
    assert double(3) == 6
    assert watch.take() is None
    watch.on = True
    assert double(3) == 6
    double(4)
    norm()
    watch.on = False
    double(5)
    found = watch.take()
    assert found is not None
    assert [(one.name, one.seconds, one.by_layer) for one in found.operations] == [
        ("product", 2.0, (0.0, 2.0)),
        ("norm", 1.0, ()),
    ]
    assert found.total_s == 3.0
    assert found.cost_s == pytest.approx(3 * call_cost_s())
    assert watch.take() is None


def test_of_the_compiled_steps_the_first_is_watched_and_then_one_in_some() -> None:
    watch = StepWatch()
    assert not watch.wants_step()
    watch.on = True
    assert [watch.wants_step() for _ in range(2 * EVERY)] == [True, *[False] * (EVERY - 1)] * 2
    watch.on = False
    assert not watch.wants_step()
    watch.on = True
    assert watch.wants_step()


def test_phases_add_up_by_their_names_from_wherever_a_call_began() -> None:
    watch = StepWatch(Clock())
    names = (Named("product", 0), Named("attention", 0), Named("product", 1), Named("head", -1))
    other = (Named("layer", 0),)
    watch.add_phases(names, 0, SECOND * np.array([1, 2]))
    watch.add_phases(names, 2, SECOND * np.array([4, 8]))
    watch.add_phases(names, 0, SECOND // 2 * np.array([1, 0, 0]))
    watch.add_phases(other, 0, SECOND * np.array([16]))
    found = watch.take()
    assert found is not None
    assert {one.name: (one.seconds, one.by_layer) for one in found.operations} == {
        "layer": (16.0, (16.0,)),
        "head": (8.0, ()),
        "product": (5.5, (1.5, 4.0)),
        "attention": (2.0, (2.0,)),
    }
    assert watch.take() is None
