"""A random model of each family on NumPy against the described arithmetic in float64, in pieces of all
sizes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from llama_core.architectures import describe
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from tests.support import described
from tests.support.tiny_shapes import SHAPE, STATES

WINDOWS = {"sliding_window": 9, "window_layers": (True, False, True, False)}
EXPERTS = {"n_experts": 5, "n_experts_used": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "granite": {"embedding_scale": 3.0, "residual_scale": 0.3, "attention_scale": 0.2, "logit_divisor": 4.0},
    "granitemoe": {"residual_scale": 0.3, **EXPERTS},
    "smollm3": {"rope_layers": (True, True, False, True)},
    "mistral3": {"temperature_beta": 0.5, "temperature_length": 7},
    "olmo2": {"qk_norm": True, "window_rope_theta": 500.0, **WINDOWS},
    "exaone4": {"qk_norm": True, "rope_layers": (True, False, True, False), **WINDOWS},
    "hunyuan-dense": {"qk_norm": True},
    "ernie4_5": {"tie_embeddings": False},
    "gemma2": {"attention_softcap": 2.0, "logit_softcap": 3.0, "embedding_scale": 5.0, **WINDOWS},
    "gemma3": {"qk_norm": True, "window_rope_theta": 500.0, "embedding_scale": 5.0, **WINDOWS},
    "phi3": {"rope_dim": 6},
    "mixtral": EXPERTS,
    "qwen3moe": {"qk_norm": True, "experts_normalised": False, **EXPERTS},
    "gpt-oss": {"attention_bias": True, **WINDOWS, **EXPERTS},
    "qwen35": {"qk_norm": True, "rope_dim": 4, **STATES},
    "lfm2": {"qk_norm": True, **STATES},
    "granitehybrid": {"rope_layers": (False,) * 4, "attention_scale": 0.2, **STATES},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_described_ones(name: str) -> None:
    config = ModelConfig(**{**SHAPE, **FAMILIES[name], "architecture": name})
    weights = random_weights(config, 2)
    # More than a tile of attention, or than a chunk of a state.
    n = 110 if config.recurrent_layers else 45
    ids = np.random.default_rng(5).integers(0, 64, n).astype(np.int32)
    expected = described.forward(describe(config), weights.slots, ids.tolist())
    assert np.abs(expected).max() > 0.3
    model = Llama(config, weights)
    cache = model.new_cache(128)
    cuts = [0, 1, 35, 43, 44, n]
    rows = [model.forward(ids[a:b], cache, logits="all").copy() for a, b in pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=5e-5)
