"""The whole NumPy model against the float64 oracle, and what a pass promises."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy import model as model_module
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import RopeScaling
from llama_core.errors import Cancelled, ContextFullError, NotEnoughMemoryError
from tests.support import reference

IDS = np.random.default_rng(3).integers(0, 64, 90).astype(np.int32)

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one key head": {"n_kv_heads": 1},
    "a key head each": {"n_kv_heads": 6},
    "head_dim is not dim / n_heads": {"head_dim": 10},
    "own head": {"tie_embeddings": False},
    "qwen2 biases": {"attention_bias": True},
    "qwen3 norms": {"qk_norm": True, "attention_bias": True},
    "part of a head rotated": {"rope_dim": 4},
    "window": {"sliding_window": 7},
    "window longer than a block": {"sliding_window": 70},
    "window, a key head each": {"sliding_window": 5, "n_kv_heads": 6},
    "llama3": {"rope_scaling": RopeScaling("llama3", factor=8.0, original_max_seq_len=32)},
    "linear": {"rope_scaling": RopeScaling("linear", factor=2.0)},
    "yarn": {"rope_scaling": RopeScaling("yarn", factor=4.0, original_max_seq_len=64)},
    "frequencies from the file": {"rope_divisors": True},
}


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_the_oracles(
    name: str,
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy(**SHAPES[name])
    n = 80 if name == "window longer than a block" else 30
    expected = reference.forward(toy.config, toy.tensors, IDS[:n].tolist())
    cache = toy.model.new_cache(100)
    chunked = [toy.model.forward(IDS[a:b], cache, logits="all").copy() for a, b in ((0, 11), (11, n))]
    assert chunked[0].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(chunked), expected, atol=2e-5)

    cache.truncate(0)
    one_by_one = [toy.model.forward(IDS[i : i + 1], cache).copy() for i in range(n)]
    np.testing.assert_allclose(one_by_one, expected, atol=2e-5)


@pytest.mark.parametrize(
    "present", [("o_proj",), ("gate_proj", "up_proj"), ("down_proj",), ("o_proj", "up_proj")]
)
def test_biases_beyond_those_of_qwen(present: tuple[str, ...], make_toy: Callable[..., Any]) -> None:
    config = make_toy().config
    weights = random_weights(config, 1, [f"layers.0.{name}.bias" for name in present])
    tensors = weights.slots
    assert {name for name in present if f"layers.2.{name}.bias" in tensors} == set(present)
    model = Llama(config, weights)
    expected = reference.forward(config, tensors, IDS[:20].tolist())
    cache = model.new_cache(32)
    chunked = [model.forward(IDS[a:b], cache, logits="all").copy() for a, b in ((0, 11), (11, 19))]
    chunked.append(model.forward(IDS[19:20], cache, logits="all"))
    np.testing.assert_allclose(np.concatenate(chunked), expected, atol=2e-5)
    without = {name: value for name, value in tensors.items() if not name.endswith(".bias")}
    assert np.abs(reference.forward(config, without, IDS[:20].tolist()) - expected).max() > 0.01


def test_a_long_prompt_across_chunks_tiles_and_blocks(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More positions than a tile, a block and a pass hold, so that every seam is crossed."""
    monkeypatch.setattr(model_module, "PREFILL_CHUNK", 50)
    toy = make_toy(n_layers=1)
    model = Llama(toy.config, toy.weights)
    assert model.prefill_chunk == 50
    ids = np.random.default_rng(4).integers(0, 64, 170).astype(np.int32)
    expected = reference.forward(toy.config, toy.tensors, ids.tolist())
    cache = model.new_cache(170)
    for start in range(0, 170, 50):
        rows = model.forward(ids[start : start + 50], cache, logits="all")
        np.testing.assert_allclose(rows, expected[start : start + 50], atol=2e-5)


def test_last_and_none_agree_with_all(make_toy: Callable[..., Any]) -> None:
    model = make_toy().model
    cache = model.new_cache(64)
    every = model.forward(IDS[:20], cache, logits="all").copy()
    cache.truncate(0)
    np.testing.assert_allclose(model.forward(IDS[:20], cache), every[-1], atol=1e-5)
    assert model.forward(IDS[:5], cache, logits="none").shape == (0,)
    assert cache.length == 25


def test_a_cache_truncated_and_refilled_equals_a_fresh_one(make_toy: Callable[..., Any]) -> None:
    model = make_toy().model
    used, fresh = model.new_cache(64), model.new_cache(64)
    model.forward(IDS[:40], used)
    used.truncate(13)
    model.forward(IDS[:13], fresh)
    a = model.forward(IDS[50:60], used).copy()
    b = model.forward(IDS[50:60], fresh)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_stale_numbers_behind_the_end_are_never_used(make_toy: Callable[..., Any]) -> None:
    """What a failed pass left there, NaN included, must not matter."""
    model = make_toy().model
    clean, dirty = model.new_cache(64), model.new_cache(64)
    for cache in (clean, dirty):
        model.forward(IDS[:9], cache)
    dirty.keys[:, :, 9:] = np.nan
    dirty.values[:, :, 9:] = np.nan
    for ids in (IDS[9:10], IDS[10:30]):
        np.testing.assert_array_equal(model.forward(ids, clean).copy(), model.forward(ids, dirty))


@pytest.mark.parametrize("window", [0, 7])
def test_sequences_in_one_pass_get_what_they_get_alone(make_toy: Callable[..., Any], window: int) -> None:
    model = make_toy(sliding_window=window).model
    lengths, news = (0, 12, 31), (6, 1, 20)
    alone, together = [], []
    for start, new in zip(lengths, news, strict=True):
        caches = [model.new_cache(64) for _ in range(2)]
        for cache in caches:
            if start:
                model.forward(IDS[:start], cache)
        alone.append(model.forward(IDS[start : start + new], caches[0]).copy())
        together.append((IDS[start : start + new], caches[1]))
    batch = model.forward_batch(together)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, alone, atol=1e-5)
    assert [cache.length for _, cache in together] == [6, 13, 51]
    again = [(ids, model.new_cache(64)) for ids, _ in together]
    every = model.forward_batch(again, logits="all").copy()
    assert len(every) == sum(news)
    expected = [model.forward(ids, model.new_cache(64), logits="all").copy() for ids, _ in again]
    np.testing.assert_allclose(every, np.concatenate(expected), atol=1e-5)


def test_hidden_states_are_what_the_head_takes(make_toy: Callable[..., Any]) -> None:
    toy = make_toy()
    states = toy.model.hidden_states(IDS[:20], toy.model.new_cache(64))
    logits = toy.model.forward(IDS[:20], toy.model.new_cache(64), logits="all")
    np.testing.assert_allclose(states @ toy.weights.lm_head.T, logits, atol=1e-4)
    cache = toy.model.new_cache(64)
    parts = [toy.model.hidden_states(part, cache) for part in (IDS[:7], IDS[7:20])]
    np.testing.assert_allclose(np.concatenate(parts), states, atol=1e-5)


def test_everything_stays_float32(make_toy: Callable[..., Any]) -> None:
    """Every array of the model and of its cache: one float64 among them makes NumPy convert weights."""
    toy = make_toy(attention_bias=True, qk_norm=True)
    cache = toy.model.new_cache(64)
    toy.model.forward(IDS[:9], cache)

    def arrays(value: Any, seen: set[int]) -> list[np.ndarray]:
        if isinstance(value, np.ndarray):
            return [value]
        if id(value) in seen or not type(value).__module__.startswith("llama_core"):
            items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
            return [a for item in items for a in arrays(item, seen)]
        seen.add(id(value))
        names = getattr(type(value), "__slots__", None) or vars(value)
        return [a for name in names for a in arrays(getattr(value, name), seen)]

    found = arrays(toy.model, set()) + arrays(cache, set())
    assert len(found) > 40
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


def test_a_decode_step_allocates_next_to_nothing(make_toy: Callable[..., Any]) -> None:
    """Far less than one row of activations of a layer, at whatever length."""
    model = make_toy(dim=512, hidden_dim=4096, head_dim=64, n_layers=2).model
    cache = model.new_cache(512)
    model.forward(IDS[:80], cache)
    model.forward(IDS[:1], cache)
    tracemalloc.start()
    try:
        model.forward(IDS[:1], cache)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096 * 4


@pytest.mark.parametrize("rows", [1, 30])
def test_cancelled_before_any_layer_leaves_the_cache_as_it_was(
    make_toy: Callable[..., Any], rows: int
) -> None:
    model = make_toy().model
    cache = model.new_cache(64)
    model.forward(IDS[:5], cache)
    expected = model.forward(IDS[5 : 5 + rows], cache).copy()
    for layer in range(3):
        cache.truncate(5)
        answers = iter([False] * layer + [True])
        with pytest.raises(Cancelled):
            model.forward(IDS[40 : 40 + rows], cache, cancelled=lambda answers=answers: next(answers))
        assert cache.length == 5
        np.testing.assert_array_equal(model.forward(IDS[5 : 5 + rows], cache), expected)


def test_what_does_not_fit_is_refused(make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy()
    model, cache = toy.model, toy.model.new_cache(10)
    with pytest.raises(ContextFullError):
        model.forward(IDS[:11], cache)
    with pytest.raises(ValueError, match="1 to 256 tokens"):
        model.forward(IDS[:0], cache)
    for wrong in (-1, 64):
        with pytest.raises(ValueError, match="0 to 63"):
            model.forward(np.array([3, wrong], np.int32), cache)
    with pytest.raises(TypeError, match="its own cache"):
        model.forward(IDS[:1], object())
    assert cache.length == 0
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError, match="Logits of 10 tokens"):
        model.forward(IDS[:10], cache, logits="all")


def test_the_account_of_bytes_adds_up(make_toy: Callable[..., Any]) -> None:
    toy = make_toy(tie_embeddings=True)
    assert toy.model.weights_bytes == sum(a.nbytes for a in toy.tensors.values())
    untied = make_toy(tie_embeddings=False)
    assert untied.model.weights_bytes == toy.model.weights_bytes + 64 * 24 * 4
    before = toy.model.scratch_bytes
    toy.model.new_cache(400)
    assert toy.model.scratch_bytes > before
    assert toy.model.mapped_bytes == 0


def test_threads_limit_the_blas_and_are_given_back(make_toy: Callable[..., Any]) -> None:
    toy = make_toy()
    before = toy.model.threads
    limited = Llama(toy.config, toy.weights, threads=1)
    assert limited.threads == 1
    assert make_toy().model.threads == 1
    limited.close()
    limited.close()
    assert make_toy().model.threads == before
    with pytest.raises(ValueError, match="threads is 0"):
        Llama(toy.config, toy.weights, threads=0)
