"""Loading: fused in place, every shape checked, progress told, memory asked for first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy import weights as weights_module
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.errors import ModelFormatError, NotEnoughMemoryError
from llama_core.events import LoadProgress
from llama_core.quant.table import F32


def checkpoint(toy: Any, **changes: np.ndarray | None) -> Checkpoint:
    """A toy as an opened float32 file; changes replace a tensor (None: leave it out)."""
    arrays = {**toy.tensors, **{name.replace("__", "."): value for name, value in changes.items()}}
    tensors = {
        name: Tensor(name, a.shape, F32, np.atleast_2d(np.ascontiguousarray(a)).view(np.uint8))
        for name, a in arrays.items()
        if a is not None
    }
    return Checkpoint(Path("toy.gguf"), "gguf", 0, toy.config, tensors, tokenizer=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_loaded_weights_are_the_files_and_float32(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, threads: int, tied: bool
) -> None:
    monkeypatch.setattr(weights_module, "_PIECE", 100)  # so that a matrix is many pieces
    toy = make_toy(tie_embeddings=tied, attention_bias=True, qk_norm=True, rope_divisors=True)
    seen: list[LoadProgress] = []
    loaded = load_weights(checkpoint(toy), seen.append, threads)
    for name, expected in toy.tensors.items():
        found = loaded.slots[name]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    assert loaded.nbytes == toy.weights.nbytes
    assert (loaded.lm_head is loaded.embed_tokens) == tied
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes == sum(a.nbytes for a in toy.tensors.values())


def test_products_of_one_input_share_a_matrix(make_toy: Callable[..., Any]) -> None:
    toy = make_toy()
    layer = load_weights(checkpoint(toy)).layers[1]
    parts = [toy.tensors[f"layers.1.{name}_proj"] for name in "qkv"]
    np.testing.assert_array_equal(layer.in_proj, np.concatenate(parts))
    parts = [toy.tensors[f"layers.1.{name}_proj"] for name in ("gate", "up")]
    np.testing.assert_array_equal(layer.feed_forwards[0].gate_up_proj, np.concatenate(parts))


def test_a_missing_tensor_is_named(make_toy: Callable[..., Any]) -> None:
    with pytest.raises(ModelFormatError, match=r"toy\.gguf: layers\.2\.k_proj: this tensor is missing"):
        load_weights(checkpoint(make_toy(), layers__2__k_proj=None))


def test_a_wrong_shape_is_named(make_toy: Callable[..., Any]) -> None:
    wrong = np.zeros((25, 24), np.float32)
    with pytest.raises(ModelFormatError, match=r"layers\.0\.o_proj: its shape is \(25, 24\), not \(24, 48\)"):
        load_weights(checkpoint(make_toy(), layers__0__o_proj=wrong))


def test_weights_larger_than_memory_are_refused(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy()
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 10_000)
    with pytest.raises(NotEnoughMemoryError, match="weights in float32"):
        load_weights(checkpoint(toy))


def test_a_tensor_that_cannot_be_read_stops_the_load(make_toy: Callable[..., Any]) -> None:
    good = checkpoint(make_toy())
    broken = dict(good.tensors)
    name = "layers.1.up_proj"
    broken[name] = dataclasses.replace(broken[name], raw=broken[name].raw[:, :-4])
    with pytest.raises(ValueError, match="out is float32"):
        load_weights(dataclasses.replace(good, tensors=broken))
