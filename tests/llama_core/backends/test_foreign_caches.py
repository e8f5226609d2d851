"""Caches that another model made: a model of the same config takes them, every other refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llama_core.backends.base import Model
from llama_core.backends.jit import jit_available, load_jit_model
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.config import ModelConfig
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint

CONFIG = ModelConfig(
    dim=64,
    hidden_dim=96,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    vocab_size=64,
    max_seq_len=512,
    name="toy",
)
IDS = np.arange(20, 40, dtype=np.int32)


@pytest.fixture(params=["numpy", "jit"])
def load(request: pytest.FixtureRequest, kernel_cache: Path) -> Callable[[ModelConfig], Model]:
    """A model of random numbers."""
    if request.param == "jit" and jit_available() is not None:
        pytest.skip("the compiled backend does not run here")

    def made(config: ModelConfig) -> Model:
        checkpoint: Checkpoint = random_checkpoint(config, NoTokenizer(), seed=3)
        if request.param == "numpy":
            return Llama(checkpoint.config, load_weights(checkpoint))
        return load_jit_model(checkpoint, threads=1, kernel_cache=kernel_cache)

    return made


def test_a_model_of_the_same_config_takes_it(load: Callable[[ModelConfig], Model]) -> None:
    """It has made no cache before, let alone one as long: its tables by position grow."""
    first, second = load(CONFIG), load(CONFIG)
    cache = first.new_cache(400)
    wanted = first.forward(IDS, cache).copy()
    cache.truncate(0)
    np.testing.assert_array_equal(second.forward(IDS, cache), wanted)
    first.close()
    second.close()


def test_another_model_refuses_it(load: Callable[[ModelConfig], Model]) -> None:
    """Its numbers lie elsewhere: compiled code would write outside of it."""
    small, large = load(CONFIG), load(replace(CONFIG, n_layers=3, n_kv_heads=4))
    cache = small.new_cache(64)
    with pytest.raises(ValueError, match=r"made for another model \(toy\)"):
        large.forward(IDS, cache)
    with pytest.raises(ValueError, match="made for another model"):
        large.new_cache(64).copy_prefix(cache, 0)
    assert cache.length == 0
    small.close()
    large.close()
