"""Experts are unpacked when a token takes them, and the numbers do not depend on how many are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.numpy import experts as experts_module
from llama_core.backends.numpy.experts import UnpackedExperts, bytes_of_a_token, is_of_expert
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import ModelWeights, load_weights, random_weights
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.memory_needed import memory_needed
from llama_core.quant.table import F32

CONFIG = ModelConfig(
    dim=32,
    hidden_dim=48,
    n_layers=3,
    n_heads=4,
    n_kv_heads=2,
    head_dim=8,
    vocab_size=90,
    max_seq_len=64,
    architecture="gpt-oss",
    attention_bias=True,
    n_experts=6,
    n_experts_used=2,
)
IDS = (np.arange(20) * 7 % 90).astype(np.int32)


@pytest.fixture
def opened() -> tuple[Checkpoint, ModelWeights]:
    """A float32 file of a model with experts, and all its weights as arrays."""
    weights = random_weights(CONFIG, 3)
    tensors = {
        name: Tensor(name, a.shape, F32, np.atleast_2d(np.ascontiguousarray(a)).view(np.uint8))
        for name, a in weights.slots.items()
    }
    tokenizer: Any = None
    return Checkpoint(Path("toy.gguf"), "gguf", 0, CONFIG, tensors, tokenizer), weights


def logits_of(weights: ModelWeights) -> NDArray[np.float32]:
    """Of a prompt and of three tokens behind it, one by one."""
    model = Llama(CONFIG, weights)
    cache = model.new_cache(32)
    rows = [model.forward(IDS[:17], cache, logits="all").copy()]
    rows += [model.forward(IDS[i : i + 1], cache, logits="all").copy() for i in range(17, 20)]
    return np.concatenate(rows)


@pytest.mark.parametrize("n_kept", [0, 1, 5, 1000])
def test_however_many_are_kept_the_logits_are_the_same(
    opened: tuple[Checkpoint, ModelWeights], n_kept: int
) -> None:
    checkpoint, whole = opened
    loaded = load_weights(checkpoint)
    one = loaded.layers[0].feed_forwards[0].nbytes
    store = UnpackedExperts(n_kept * one)
    for layer in loaded.layers:
        layer.feed_forwards._store = store  # type: ignore[attr-defined]
    np.testing.assert_array_equal(logits_of(loaded), logits_of(whole))
    assert store.nbytes <= max(1, n_kept) * one


def test_a_token_unpacks_its_own_experts_and_no_more(
    opened: tuple[Checkpoint, ModelWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_weights(opened[0])
    unpacked: list[str] = []
    real = experts_module.unpacked

    def seen(tensors: dict[str, Tensor]) -> Any:
        unpacked.append(tensors["down_proj"].name)
        return real(tensors)

    monkeypatch.setattr(experts_module, "unpacked", seen)
    before = loaded.nbytes
    model = Llama(CONFIG, loaded)
    cache = model.new_cache(32)
    model.forward(IDS[:1], cache)
    assert len(set(unpacked)) == len(unpacked) == CONFIG.n_layers * CONFIG.n_experts_used
    biases = 4 * (2 * CONFIG.hidden_dim + CONFIG.dim) * len(unpacked)
    assert loaded.nbytes - before == bytes_of_a_token(CONFIG) + biases
    cache.truncate(0)
    model.forward(IDS[:1], cache)
    assert len(unpacked) == 6  # kept


def test_the_memory_told_beforehand_is_that_of_the_arrays_and_a_token_s_experts(
    opened: tuple[Checkpoint, ModelWeights],
) -> None:
    checkpoint, _ = opened
    loaded = load_weights(checkpoint)
    memory = memory_needed(CONFIG, checkpoint.tensors)["numpy"]
    assert memory["weights_bytes"] == loaded.own_bytes + bytes_of_a_token(CONFIG)
    experts = [tensor.nbytes for name, tensor in checkpoint.tensors.items() if is_of_expert(name)]
    assert memory["mapped_bytes"] == loaded.mapped_bytes == sum(experts)


def test_an_expert_with_a_wrong_shape_is_named_when_the_model_is_loaded(
    opened: tuple[Checkpoint, ModelWeights],
) -> None:
    checkpoint, _ = opened
    name = "layers.1.experts.4.up_proj"
    values = np.zeros((5, 32), np.float32)
    wrong = {**checkpoint.tensors, name: Tensor(name, (5, 32), F32, values.view(np.uint8))}
    with pytest.raises(Exception, match=r"layers\.1\.experts\.4\.up_proj: its shape is \(5, 32\)"):
        load_weights(replace(checkpoint, tensors=wrong))
