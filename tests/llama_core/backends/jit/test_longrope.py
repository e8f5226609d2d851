"""LongRoPE in the compiled step: the room of a cache chooses the factors, cache by cache, as in NumPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.config import RopeScaling

IDS = (np.arange(60) * 37 % 130).astype(np.int32)
ORIGINAL = 40


def checkpoint_of(toys: SimpleNamespace) -> Checkpoint:
    """A toy whose factors change with caches of more than ORIGINAL positions."""
    scaling = RopeScaling(
        kind="longrope",
        original_max_seq_len=ORIGINAL,
        attention_factor=1.1,
        short_factors=(1.0,) * 8,
        long_factors=tuple(1.0 + j for j in range(8)),
    )
    checkpoint: Checkpoint = toys.checkpoint("F32", rope_scaling=scaling)
    return checkpoint


def logits_of(model: Any, capacity: int, n: int) -> np.ndarray:
    """Of the first n tokens, one pass and then single tokens."""
    cache = model.new_cache(capacity)
    rows = [model.forward(IDS[: n - 3], cache, logits="all").copy()]
    rows += [model.forward(IDS[i : i + 1], cache, logits="all").copy() for i in range(n - 3, n)]
    return np.concatenate(rows)


def test_short_and_long_caches_give_numpy_s_logits(toys: SimpleNamespace) -> None:
    checkpoint = checkpoint_of(toys)
    numpy, compiled = Llama(checkpoint.config, load_weights(checkpoint)), toys.load(checkpoint)
    # Behind a long cache a short one needs its own tables again; the text of the last crosses the length.
    found = [logits_of(compiled, *of) for of in ((ORIGINAL, 30), (200, 30), (ORIGINAL, 30), (64, 60))]
    wanted = [logits_of(numpy, *of) for of in ((ORIGINAL, 30), (200, 30), (ORIGINAL, 30), (64, 60))]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[3][:30])  # nothing changes at the original length


def test_caches_of_both_sorts_share_a_step(toys: SimpleNamespace) -> None:
    model = toys.load(checkpoint_of(toys))
    alone = [model.forward(IDS[:20], model.new_cache(room)).copy() for room in (ORIGINAL, 100)]
    together = model.forward_batch([(IDS[:20], model.new_cache(room)) for room in (ORIGINAL, 100)])
    np.testing.assert_array_equal(together, alone)
    assert np.abs(alone[0] - alone[1]).max() > 0.01
