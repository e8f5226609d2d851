"""Which way of reading weights is faster is found out while decoding, and shows in nothing but time."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core.backends.jit.prefetch import DISTANCES, FAR, PAIRS, PrefetchDistance
from llama_core.backends.jit.workspace import Tuning


@pytest.mark.parametrize("faster", DISTANCES)
def test_the_faster_distance_stays(faster: int) -> None:
    """Six per cent, on a machine whose speed drifts and of which others take a third now and then."""
    rng = random.Random(2)
    choice = PrefetchDistance()
    tried = []
    for step in range(4 * PAIRS):
        tried.append(choice.distance)
        seconds = (1 + step / 50) * (1.0 if choice.distance == faster else 1.06) * rng.uniform(1.0, 1.03)
        choice.took(seconds * (1.5 if rng.random() < 0.1 else 1.0))
    assert sorted(tried[: 2 * PAIRS]) == sorted(DISTANCES * PAIRS)
    assert set(tried[2 * PAIRS :]) == {faster}


def test_a_fixed_distance_stays_whatever_is_faster(toys: SimpleNamespace) -> None:
    for distance in DISTANCES:
        model = toys.load(toys.checkpoint("Q4_1"), tuning=Tuning(prefetch_bytes=distance))
        cache = model.new_cache(2 * PAIRS + 8)
        for _ in range(cache.capacity):
            model.forward(np.array([1], np.int32), cache)
            assert model._prefetch.distance == distance


def test_logits_are_the_same_while_distances_are_tried(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q4_1")
    ids = np.random.default_rng(1).integers(0, 130, 2 * PAIRS + 8).astype(np.int32)
    model = toys.load(checkpoint)
    cache = model.new_cache(len(ids))
    distances = set()
    rows = []
    for i in range(len(ids)):
        distances.add(model._prefetch.distance)
        rows.append(model.forward(ids[i : i + 1], cache).copy())
    assert distances == set(DISTANCES)
    whole = toys.load(checkpoint)
    np.testing.assert_array_equal(rows, whole.forward(ids, whole.new_cache(len(ids)), logits="all"))


@pytest.mark.parametrize("chosen", DISTANCES)
def test_prompts_ask_far_ahead_whatever_decoding_chose(toys: SimpleNamespace, chosen: int) -> None:
    model = toys.load(toys.checkpoint("Q4_1"))
    cache = model.new_cache(64)
    for n, distance in ((30, FAR), (1, chosen), (5, FAR), (3, chosen)):
        model._prefetch.distance = chosen
        model.forward(np.arange(n, dtype=np.int32), cache)
        assert model._step.prefetch_bytes == distance
