"""The watcher of phases: what it sees counts for the right operation and layer, what it misses is said."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit import model as jit_model
from llama_core.backends.jit.control.records import CURRENT, Shared
from llama_core.backends.jit.threads import ThreadPool
from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import operations as operation_profile
from llama_core.profiling.profile import phase_watch
from llama_core.profiling.profile.inference import generate
from llama_core.profiling.profile.op_timers import NO_LAYER
from llama_core.profiling.profile.phase_watch import NOT_SEEN, Watcher, phase_seconds

IDS = list(range(40))


def wait_for(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0)


def test_phases_that_were_missed_count_for_none() -> None:
    seen = [(7, 1.0), (8, 3.0), (11, 3.5), (12, 4.5), (12, 9.0)]
    assert phase_seconds(seen) == [(0, 2.0), (None, 0.5), (4, 1.0)]


def test_the_watcher_sees_each_change_of_a_step_and_nothing_between_steps() -> None:
    current = np.array([5], np.int64)
    watcher = Watcher(current)
    try:
        for first in (5, 10):
            current[0] = first
            watcher.begin()
            for phase in range(first + 1, first + 4):
                current[0] = phase
                wait_for(lambda phase=phase: watcher._seen[-1][0] == phase)
            seen = watcher.end()
            assert [phase for phase, _ in seen] == [*range(first, first + 4), first + 3]
            assert [when for _, when in seen] == sorted(when for _, when in seen)
    finally:
        watcher.close()
    assert not watcher._thread.is_alive()


def open_phase(model: Any) -> np.ndarray:
    """The word with the number of the open phase."""
    return model._work.shared.words[CURRENT // Shared.spacing :]


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
HEAD = "head"


class Slowly:
    """Stands for the kernels: opens the planned phases one by one, and waits until each has been seen. On its
    clock the first of a layer's phases takes a second, the next one two, and so on; the head's take 100."""

    def __init__(self, model: Any) -> None:
        self._model, self._current = model, open_phase(model)
        self._now_s = 0.0
        self._watcher: Watcher

    def watcher(self, current: np.ndarray) -> Watcher:
        self._watcher = Watcher(current, lambda: self._now_s)
        return self._watcher

    def run(self, _: int) -> None:
        names, first = self._model.planned_phases(), int(self._current[0])
        a_layer = sum(name.layer == 0 for name in names)
        assert a_layer > 2, "whole layers have no operations to be seen"
        for i, name in enumerate(names):
            phase = first + i
            self._now_s += 100.0 if name.layer == NO_LAYER else 1.0 + i % a_layer
            self._current[0] = phase + 1
            wait_for(lambda phase=phase: self._watcher._seen[-1][0] == phase + 1)


def test_every_phase_is_an_operation_of_its_layer(
    compiled: TextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = compiled.model
    current = open_phase(model)
    before = int(current[0])
    slowly = Slowly(model)
    with monkeypatch.context() as patch:
        patch.setattr(phase_watch, "Watcher", slowly.watcher)
        with phase_watch.watched_operations(model) as take:
            patch.setattr(model._pool, "_library", slowly)
            cache = model.new_cache(64)
            model.forward(np.array(IDS, np.int32), cache)
            large = take()
            model.forward(np.array(IDS[:1], np.int32), cache)
            small = take()
    current[0] = before  # no kernel has opened these phases
    layers = range(model.config.n_layers)
    for times, names, heads in ((large, LARGE, 2), (small, SMALL, 1)):
        assert times.calls == {name: names.count(name) * len(layers) for name in names} | {HEAD: heads}
        assert times.by_layer(HEAD) == {NO_LAYER: 100.0 * heads}
        for name in names:
            seconds = sum(1.0 + i for i, other in enumerate(names) if other == name)
            assert times.by_layer(name) == dict.fromkeys(layers, seconds)


def test_a_watched_model_computes_the_same_and_is_left_as_it_was(compiled: TextEngine) -> None:
    originals = ThreadPool.run, jit_model.WIDE_TOKENS, sys.getswitchinterval()
    _, alone = generate(compiled.engine, IDS, 5)
    with phase_watch.watched_operations(compiled.model) as take:  # type: ignore[arg-type]
        _, watched = generate(compiled.engine, IDS, 5)
        times = take()
    assert watched == alone
    assert set(times.calls) <= {*LARGE, *SMALL, HEAD, NOT_SEEN}
    assert (ThreadPool.run, jit_model.WIDE_TOKENS, sys.getswitchinterval()) == originals
    with pytest.raises(ValueError, match="token ids"), phase_watch.watched_operations(compiled.model):  # type: ignore[arg-type]
        compiled.model.forward(np.array([9999], np.int32), compiled.model.new_cache(4))
    assert (ThreadPool.run, jit_model.WIDE_TOKENS, sys.getswitchinterval()) == originals


@pytest.mark.parametrize("cores", [1, 2])
def test_the_profile_has_what_was_watched_where_there_is_a_core_for_it(
    compiled: TextEngine, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(operation_profile, "usable_cores", lambda: cores)
    tables = operation_profile.profile_operations(compiled.engine, IDS, 5)
    watched = ["prefill, watched", "decode, watched"] if cores > 1 else []
    assert list(tables) == ["prefill", "decode", *watched]
    for name in watched:
        assert sum(row.seconds for row in tables[name].rows) == pytest.approx(tables[name].total_s)
