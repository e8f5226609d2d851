"""Grouped attention against an explicit loop over heads, and the mask by its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.architectures import describe
from llama_core.backends.numpy.attention import _mask, attend, norm_and_rotate
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.rope import RopeTable
from llama_core.backends.numpy.scratch import Scratch
from tests.support import reference


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("window", [0, 3, 40])
@pytest.mark.parametrize(("cached", "new"), [(0, 1), (0, 40), (70, 1), (70, 33), (63, 2)])
def test_one_layer_equals_the_loop(
    make_toy: Callable[..., Any],
    kv_heads: int,
    window: int,
    cached: int,
    new: int,
) -> None:
    toy = make_toy(n_kv_heads=kv_heads, sliding_window=window)
    config, spec = toy.config, describe(toy.config).layers[1].attention
    rng = np.random.default_rng(cached + new)
    table, cache, scratch = RopeTable(spec.rope, None, 128), KVCache(config, 128), Scratch()
    layer = 1
    cache.keys[layer, :, :cached] = rng.standard_normal((kv_heads, cached, 8))
    cache.values[layer, :, :cached] = rng.standard_normal((kv_heads, cached, 8))
    cache.advance(cached)

    width = config.q_dim + 2 * config.kv_dim
    qkv = scratch.rows("qkv", new, width)
    qkv[...] = rng.standard_normal((new, width))
    heads = qkv.reshape(new, 6 + 2 * kv_heads, 8).copy()
    out = scratch.rows("out", new, config.q_dim)
    weights, angles = toy.weights.layers[layer].mixer, table.rows(cached, cached + new)
    norm_and_rotate(spec, weights, 1e-5, qkv, angles)
    attend(spec, None, qkv, cache.keys[layer], cache.values[layer], cached, out, scratch)
    assert out.dtype == np.float32
    for row in range(new):
        position = cached + row
        for key_head in range(kv_heads):
            key = reference.rope(heads[row, 6 + key_head], position, config)
            np.testing.assert_allclose(cache.keys[layer, key_head, position], key, atol=2e-6)
        for head in range(6):
            shared = head // (6 // kv_heads)
            expected = reference.attention(
                reference.rope(heads[row, head], position, config),
                cache.keys[layer, shared].astype(np.float64),
                cache.values[layer, shared].astype(np.float64),
                position,
                window,
            )
            np.testing.assert_allclose(out[row, head * 8 : head * 8 + 8], expected, atol=5e-6)
    assert not cache.keys[0].any(), "other layers are untouched"
    assert cache.length == cached, "a pass becomes valid only when all layers are written"


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("kv_len", [9, 12])
@pytest.mark.parametrize("window", [0, 1, 3, 9, 50])
def test_the_mask_hides_the_future_and_what_the_window_left(length: int, kv_len: int, window: int) -> None:
    mask = _mask(length, kv_len, window)
    whole = np.zeros((length, kv_len), np.float32)
    if mask is not None:
        assert mask.dtype == np.float32
        whole[:, kv_len - mask.shape[-1] :] = mask[:, 0]
    for row in range(length):
        position = kv_len - length + row
        for column in range(kv_len):
            seen = column <= position and not (window and column <= position - window)
            assert (whole[row, column] == 0.0) == seen
