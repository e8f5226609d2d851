"""The clock in a step: every phase by its name, in any kind of step, and the same bits as without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core.backends.base import NO_LAYER
from llama_core.backends.jit.program import PhaseName
from llama_core.backends.jit.workspace import Tuning
from llama_core.backends.step_watch import StepWatch

IDS = (np.arange(40) * 37 % 130).astype(np.int32)
# What a layer of each kind of step consists of, phase by phase.
SMALL = (
    "norm, QKV product",
    "RoPE, cache, attention",
    "output product",
    "norm, gate and up, SwiGLU",
    "down product",
)
LARGE = (
    "norm",
    "QKV product",
    "RoPE of keys, cache",
    "RoPE of queries, attention",
    "quantising",
    "output product",
    "norm",
    "gate and up, SwiGLU",
    "quantising",
    "down product",
)


class Seen:
    """Collects what a model tells."""

    def wants_step(self) -> bool:
        return True

    def __init__(self) -> None:
        self.names: list[PhaseName] = []
        self.seconds: list[float] = []

    def add_phases(self, names: Sequence[PhaseName], first: int, nanoseconds: np.ndarray) -> None:
        self.names += names[first : first + len(nanoseconds)]
        self.seconds += (nanoseconds / 1e9).tolist()


@pytest.mark.parametrize(("n", "layer", "heads"), [(1, SMALL, 1), (40, LARGE, 2)], ids=["decode", "prefill"])
def test_every_phase_is_told_with_its_time(
    toys: SimpleNamespace, n: int, layer: Sequence[str], heads: int
) -> None:
    plain = toys.load(toys.checkpoint())
    wanted = plain.forward(IDS[:n], plain.new_cache(64)).copy()
    seen = Seen()
    model = plain.observed(seen, Tuning(wide_tokens=1 << 40))
    try:
        cache = model.new_cache(64)
        began = time.perf_counter()
        logits = model.forward(IDS[:n], cache)
        took = time.perf_counter() - began
    finally:
        model.close()
    np.testing.assert_array_equal(logits, wanted)
    expected = [PhaseName(name, i) for i in range(model.config.n_layers) for name in layer]
    assert seen.names == [*expected, *[PhaseName("head", NO_LAYER)] * heads]
    assert min(seen.seconds) >= 0
    assert 0 < sum(seen.seconds) < took


def test_a_watch_is_turned_on_and_off_between_two_steps(toys: SimpleNamespace) -> None:
    plain, watch = toys.load(toys.checkpoint()), StepWatch()
    model = plain.observed(watch)
    try:
        cache, own = model.new_cache(64), plain.new_cache(64)
        for on in (False, True, False, True):
            watch.on = on
            wanted = plain.forward(IDS[:1], own).copy()
            np.testing.assert_array_equal(model.forward(IDS[:1], cache), wanted)
            found = watch.take()
            assert (found is not None) == on
            if found is not None:
                assert {one.name for one in found.operations} == {*SMALL, "head"}
                assert {len(one.by_layer) for one in found.operations} == {0, model.config.n_layers}
                assert min(one.seconds for one in found.operations) > 0
    finally:
        model.close()
