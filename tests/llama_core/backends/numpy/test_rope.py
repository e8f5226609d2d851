"""RoPE against the oracle: every kind of scaling, partial rotation, and the tables' type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llama_core.architectures import describe
from llama_core.architectures.base import Rope
from llama_core.architectures.rope import rope_frequencies
from llama_core.backends.numpy.rope import RopeTable, rotate
from llama_core.config import ModelConfig, RopeScaling
from tests.support import reference

SCALINGS = {
    "none": None,
    "linear": RopeScaling("linear", factor=4.0),
    "llama3": RopeScaling("llama3", factor=8.0, original_max_seq_len=256, low_freq_factor=1.0),
    "yarn": RopeScaling("yarn", factor=4.0, original_max_seq_len=128),
    "yarn with a factor of its own": RopeScaling(
        "yarn", factor=4.0, original_max_seq_len=128, beta_fast=16.0, beta_slow=2.0, attention_factor=1.5
    ),
}


def config(**changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "dim": 24,
        "hidden_dim": 40,
        "n_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 32,
        "vocab_size": 10,
        "max_seq_len": 4096,
    }
    return ModelConfig(**{**fields, **changes})


def rope_of(shape: ModelConfig) -> Rope:
    rope = describe(shape).layers[0].attention.rope
    assert rope is not None
    return rope


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("divided", [False, True])
def test_frequencies(name: str, divided: bool) -> None:
    shape = config(rope_scaling=SCALINGS[name])
    divisors = np.linspace(1.0, 9.0, 16, dtype=np.float32) if divided else None
    frequencies, factor = rope_frequencies(rope_of(shape), divisors)
    for j in range(16):
        expected, expected_factor = reference.inverse_wavelength(j, shape, divisors)
        assert frequencies[j] == pytest.approx(expected, rel=1e-9)
        assert factor == pytest.approx(expected_factor)


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("rope_dim", [0, 16])
def test_rotate(name: str, rope_dim: int) -> None:
    shape = config(rope_scaling=SCALINGS[name], rope_dim=rope_dim)
    table = RopeTable(rope_of(shape), None, 3000)
    rng = np.random.default_rng(5)
    positions = [0, 1, 77, 2999]
    rotated = shape.n_rotated
    x = rng.standard_normal((len(positions), 3, shape.head_dim)).astype(np.float32)
    result = x.copy()
    rotate(result, table.cos[positions], table.sin[positions])
    for row, position in enumerate(positions):
        for head in range(3):
            expected = reference.rope(x[row, head], position, shape)
            np.testing.assert_allclose(result[row, head], expected, atol=2e-6)
    np.testing.assert_array_equal(result[..., rotated:], x[..., rotated:])


def test_the_tables_are_float32() -> None:
    table = RopeTable(rope_of(config()), None, 100)
    assert table.cos.dtype == table.sin.dtype == np.float32
    assert (len(table.cos), table.nbytes) == (100, 100 * (16 + 32) * 4)


def test_longrope_takes_its_long_factors_in_caches_beyond_the_original_length() -> None:
    scaling = RopeScaling(
        "longrope",
        original_max_seq_len=64,
        short_factors=(1.0, 2.0),
        long_factors=(4.0, 8.0),
        attention_factor=1.5,
    )
    rope = Rope(100.0, 4, scaling)
    for capacity, divisors in ((64, (1.0, 2.0)), (65, (4.0, 8.0))):
        frequencies, factor = rope_frequencies(rope, None, capacity)
        np.testing.assert_allclose(frequencies, np.array([1.0, 0.1]) / divisors)
        assert factor == 1.5


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    """What RoPE is for: a query at p and a key at p - d meet at the same angle wherever p is."""
    shape = config()
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 32))
    near = reference.rope(query, 9, shape) @ reference.rope(key, 4, shape)
    far = reference.rope(query, 1009, shape) @ reference.rope(key, 1004, shape)
    assert near == pytest.approx(far, abs=1e-9)
