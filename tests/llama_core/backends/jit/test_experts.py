"""Experts in the compiled step: the sums that NumPy gets, the same bits however tokens come, and no more
weights read than tokens ask for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.model import JitLlama
from llama_core.backends.jit.plan import plan_packing
from tests.support.cut_texts import IDS, bits_of, logits_of, numpy_logits

EXPERTS: dict[str, Any] = {"n_experts": 5, "n_experts_used": 2}
CASES: dict[str, dict[str, Any]] = {
    "shares of all": {**EXPERTS, "experts_normalised": False},
    "shares of the chosen": EXPERTS,
    "one": {**EXPERTS, "n_experts_used": 1},
    "all": {**EXPERTS, "n_experts_used": 5},
    "many": {"n_experts": 37, "n_experts_used": 6},
    "scaled sums": {**EXPERTS, "residual_scale": 0.3},
    "norms of q and k": {**EXPERTS, "architecture": "qwen3moe", "qk_norm": True},
    "biases, sinks, windows": {
        **EXPERTS,
        "architecture": "gpt-oss",
        "attention_bias": True,
        "sliding_window": 20,
        "window_layers": (True, False),
    },
}


def types(name: str) -> str:
    """A type for each tensor: an expert's own, gates and ups of two."""
    if ".experts." in name:
        return ("Q4_0", "Q8_0", "Q4_1", "F32", "Q8_0")[int(name.split(".")[3]) % 5]
    return "Q8_0"


@pytest.mark.parametrize("case", CASES)
def test_float32_experts_give_numpy_s_logits(toys: SimpleNamespace, case: str) -> None:
    checkpoint = toys.checkpoint("F32", **CASES[case])
    ours = logits_of(toys.load(checkpoint), 64, 128)
    theirs = numpy_logits(checkpoint)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_bits_do_not_depend_on_cuts_and_threads(toys: SimpleNamespace, case: str) -> None:
    bits_of(toys, toys.checkpoint(types, **CASES[case]))


def test_a_batch_gives_each_sequence_its_own_bits(toys: SimpleNamespace) -> None:
    model: JitLlama = toys.load(toys.checkpoint(types, **EXPERTS))
    cuts = (IDS[:5], IDS[40:41], IDS[50:73])
    alone = [model.forward(ids, model.new_cache(64)).copy() for ids in cuts]
    together = model.forward_batch([(ids, model.new_cache(64)) for ids in cuts])
    np.testing.assert_array_equal(together, alone)


def test_quantised_experts_are_near_numpy_s(toys: SimpleNamespace) -> None:
    """All are taken: noise turns no choice."""
    checkpoint = toys.checkpoint("Q8_0", **CASES["all"])
    theirs = numpy_logits(checkpoint)
    error = np.sqrt(((logits_of(toys.load(checkpoint), 100) - theirs) ** 2).mean()) / theirs.std()
    assert 0 < error < 0.04, error


def test_experts_that_nobody_takes_are_not_read(toys: SimpleNamespace) -> None:
    """NaN in their weights would otherwise reach the sums."""
    checkpoint = toys.checkpoint("F32", **CASES["biases, sinks, windows"])
    tensors = dict(checkpoint.tensors)
    for i in range(2):
        bias = np.array([0, -1e6, 0.1, -1e6, 0.2], dtype=np.float32)
        tensors[f"layers.{i}.router.bias"] = toys.tensor("router.bias", bias, "F32")
    wanted = logits_of(toys.load(replace(checkpoint, tensors=tensors)), 40, 149)
    for name, tensor in checkpoint.tensors.items():
        if ".experts.1." in name or ".experts.3." in name:
            broken = np.full(tensor.shape, np.nan, dtype=np.float32)
            tensors[name] = toys.tensor(name, broken, "F32")
    found = logits_of(toys.load(replace(checkpoint, tensors=tensors)), 40, 149)
    np.testing.assert_array_equal(found, wanted)
    # With the same weights, and an expert that tokens take, it does.
    tensors["layers.0.experts.2.down_proj"] = tensors["layers.0.experts.1.down_proj"]
    assert np.isnan(logits_of(toys.load(replace(checkpoint, tensors=tensors)), 100)).any()


def test_the_bytes_of_a_token_are_those_of_its_experts(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q8_0", n_experts=8, n_experts_used=2)
    plan = plan_packing(checkpoint.config, checkpoint.tensors)
    dense = sum(m.nbytes for n, m in plan.matrices.items() if not n.endswith(("gate_up", "down")))
    whole = sum(matrix.nbytes for matrix in plan.matrices.values())
    assert plan.active_bytes == dense + (whole - dense) // 4


def test_the_router_is_float32_whatever_its_type_in_the_file(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q8_0", **EXPERTS)
    tensors = dict(checkpoint.tensors)
    for i in range(2):
        name = f"layers.{i}.router"
        tensors[name] = toys.tensor(name, tensors[name].to_float32(), "F32")
    as_floats = toys.load(replace(checkpoint, tensors=tensors))
    np.testing.assert_array_equal(logits_of(toys.load(checkpoint), 100), logits_of(as_floats, 100))
