"""Toy models, small enough for a test to run thousands of passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import ModelWeights, random_weights
from llama_core.config import ModelConfig

TOY = {
    "dim": 24,
    "hidden_dim": 40,
    "n_layers": 3,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_seq_len": 512,
}


class Toy:
    """A random model: its config, its weights, the same by a checkpoint's names, and the NumPy model."""

    def __init__(self, seed: int = 1, rope_divisors: bool = False, **changes: Any) -> None:
        self.config = ModelConfig(**{**TOY, **changes})
        present = ["rope_freqs"] if rope_divisors else []
        self.weights: ModelWeights = random_weights(self.config, seed, present)
        if self.weights.rope_freqs is not None:
            self.weights.rope_freqs[:] = np.linspace(1.0, 6.0, self.config.n_rotated // 2)
        self.tensors = dict(self.weights.slots)
        self.model = Llama(self.config, self.weights)


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., Toy]:
    """make_toy(seed=1, rope_divisors=False, **config fields) -> Toy"""
    return Toy
