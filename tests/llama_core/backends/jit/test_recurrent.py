"""Layers with a state in the compiled step: what NumPy gets, and the same bits however tokens come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.build.variants import VARIANTS, host_features
from llama_core.backends.jit.kernels.recurrent import LENGTH_EPS
from llama_core.backends.jit.plan import plan_packing, shape_problem
from llama_core.backends.numpy.activations import sigmoid, silu, softplus
from llama_core.checkpoint import Checkpoint
from llama_core.config import ModelConfig
from llama_core.errors import UnsupportedModelError
from tests.support.cut_texts import IDS, bits_of, logits_of, numpy_logits

SMALL: dict[str, Any] = {
    "dim": 64,
    "head_dim": 16,
    "n_layers": 4,
    "recurrent_layers": (True, True, False, True),
}
CONV: dict[str, Any] = {**SMALL, "architecture": "lfm2", "conv_kernel": 3, "qk_norm": True}
DELTA: dict[str, Any] = {
    **SMALL,
    "architecture": "qwen35",
    "qk_norm": True,
    "conv_kernel": 4,
    "state_heads": 6,
    "state_head_dim": 16,
    "state_dim": 32,
    "state_groups": 2,
}
MAMBA: dict[str, Any] = {**DELTA, "architecture": "granitehybrid", "qk_norm": False, "residual_scale": 0.3}
CASES: dict[str, dict[str, Any]] = {
    "short convolutions": CONV,
    "long convolutions": {**CONV, "conv_kernel": 9},
    "states in all layers": {**CONV, "recurrent_layers": (True,) * 4},
    "a state first and last": {**DELTA, "recurrent_layers": (True, False, False, True)},
    "delta": DELTA,
    "delta, a key for each head": {**DELTA, "state_groups": 6, "state_dim": 16, "state_head_dim": 32},
    "delta, few heads": {**DELTA, "state_heads": 2, "state_groups": 1, "state_head_dim": 48},
    "mamba2": MAMBA,
    "mamba2, one key": {**MAMBA, "state_groups": 1, "state_heads": 4, "state_dim": 64},
    "mamba2, no positions": {**MAMBA, "rope_layers": (False,) * 4},
}


def with_biases(checkpoint: Checkpoint, toys: SimpleNamespace) -> Checkpoint:
    """Biases of the convolution and of both products around it, in every layer with a state."""
    tensors, rng = dict(checkpoint.tensors), np.random.default_rng(3)
    for i, recurrent in enumerate(checkpoint.config.recurrent_layers):
        for part in ("conv", "in_proj", "o_proj"):
            if recurrent and (name := f"layers.{i}.{part}") in tensors:
                bias = rng.standard_normal(tensors[name].shape[0]).astype(np.float32)
                tensors[f"{name}.bias"] = toys.tensor(f"{name}.bias", bias, "F32")
    return replace(checkpoint, tensors=tensors)


@pytest.mark.parametrize("case", CASES)
def test_float32_weights_give_numpy_s_logits(toys: SimpleNamespace, case: str) -> None:
    checkpoint = toys.checkpoint("F32", **CASES[case])
    ours, theirs = logits_of(toys.load(checkpoint), 64, 128), numpy_logits(checkpoint)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("base", [CONV, MAMBA], ids=["short convolutions", "mamba2"])
def test_biases(toys: SimpleNamespace, base: dict[str, Any]) -> None:
    plain = toys.checkpoint("F32", **base)
    checkpoint = with_biases(plain, toys)
    theirs = numpy_logits(checkpoint)
    assert np.abs(theirs - numpy_logits(plain)).max() > 0.1
    np.testing.assert_allclose(logits_of(toys.load(checkpoint), 64, 128), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_bits_do_not_depend_on_cuts_and_threads(toys: SimpleNamespace, case: str) -> None:
    bits_of(toys, toys.checkpoint("Q8_0", **CASES[case]))


@pytest.mark.parametrize("base", [CONV, DELTA, MAMBA], ids=["short convolutions", "delta", "mamba2"])
def test_a_batch_gives_each_sequence_its_own_bits(toys: SimpleNamespace, base: dict[str, Any]) -> None:
    model = toys.load(toys.checkpoint("Q8_0", **base))
    cuts = (IDS[:5], IDS[40:41], IDS[50:103])
    alone, caches = [], [model.new_cache(128) for _ in cuts]
    for ids in cuts:
        cache = model.new_cache(128)
        alone.append([model.forward(part, cache).copy() for part in (ids, IDS[7:8])])
    for k in range(2):  # a prompt each, and a token behind it
        parts = [IDS[7:8]] * 3 if k else cuts
        together = model.forward_batch(list(zip(parts, caches, strict=True)))
        np.testing.assert_array_equal(together, [rows[k] for rows in alone])


@pytest.mark.parametrize("case", ["short convolutions", "delta", "mamba2"])
def test_quantised_weights_are_near_numpy_s(toys: SimpleNamespace, case: str) -> None:
    """With keys as long as models have them. Of sixteen numbers, as in the tiny models of the oracle, a key's
    length and what a memory reads of it are so uncertain that 8-bit activations show more."""
    wide = {"state_dim": 128, "state_head_dim": 64, "dim": 256} if "state_dim" in CASES[case] else {}
    checkpoint = toys.checkpoint("Q8_0", **{**CASES[case], **wide})
    ours, theirs = logits_of(toys.load(checkpoint), 100), numpy_logits(checkpoint)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert 0.999 < cosines.mean() < 1


# Each takes a compilation; that the kernels of all variants agree is shown below at any rate.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "neondot"])
def test_every_instruction_set_gives_the_same_logits(toys: SimpleNamespace, name: str) -> None:
    if not all(host_features().get(feature) for feature in VARIANTS[name].needs):
        pytest.skip(f"this CPU lacks what {name} needs")
    for base in (CONV, DELTA, MAMBA):
        checkpoint = toys.checkpoint("Q8_0", **base)
        np.testing.assert_array_equal(
            logits_of(toys.load(checkpoint, isa=name), 90), logits_of(toys.load(checkpoint), 20, 50)
        )


def test_gates_beyond_what_exp_can_hold(kernels: Any) -> None:
    """fade of every instruction set: softplus, exp and sigmoid over the whole range, and lengths of 1."""
    rng = np.random.default_rng(1)
    steps = np.array([-200, -60, -20, -3, -1e-3, 0, 0.7, 5, 20, 90, 300], np.float32)
    rows = np.zeros((len(steps), 48), np.float32)  # q, k of sixteen, step, strength
    rows[:, :32] = rng.standard_normal((len(steps), 32))
    rows[:, 32], rows[:, 33] = steps, steps[::-1]
    numbers = np.array([0.25, -0.5, 0.3], np.float32)  # bias, decay, scale
    places = [numbers.ctypes.data + 4 * i for i in range(3)]
    at, found = rows.ctypes.data, np.zeros((len(steps), 4), np.float32)
    kernels.fade_delta(at + 128, at + 132, at, at + 64, 192, *places, 16, len(steps), found.ctypes.data)
    size = softplus(steps + np.float32(0.25))
    with np.errstate(over="ignore"):
        gains = sigmoid(steps[::-1])
    lengths = [np.sqrt((part**2).sum(1) + LENGTH_EPS) for part in (rows[:, 16:32], rows[:, :16])]
    wanted = np.stack((np.exp(-0.5 * size), gains, 1 / lengths[0], 0.3 / lengths[1]), axis=1)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-37)
    kernels.fade_mamba2(at + 128, 0, 0, 0, 192, *places, 16, len(steps), found.ctypes.data)
    np.testing.assert_allclose(found[:, 1], size, rtol=2e-6, atol=1e-37)
    assert (found[:, 2:] == 1).all()


def test_a_convolution_of_a_text_in_two_parts(kernels: Any) -> None:
    """The kernel of every instruction set, against NumPy's sum over the inputs."""
    rng = np.random.default_rng(2)
    taps, channels, n = 4, 32, 9
    filters, bias = rng.standard_normal((taps, channels)), rng.standard_normal(channels)
    x, state = rng.standard_normal((n, channels)), rng.standard_normal((taps - 1, channels))
    inputs = np.concatenate((state, x))
    wanted = silu((np.stack([inputs[t : t + n] for t in range(taps)]) * filters[:, None]).sum(0) + bias)
    rows, kept, filters, bias = (np.array(a, np.float32) for a in (x, state, filters, bias))
    scratch = np.zeros((taps + n, 16), np.float32)
    for first, last in ((0, 2), (2, n)):
        at, after = rows[first:].ctypes.data, np.zeros_like(kept)
        kernels.convolve_silu(
            *(at, 4 * channels, 0, at, 4 * channels, channels, 4 * channels, taps),
            *(filters.ctypes.data, bias.ctypes.data, kept.ctypes.data, after.ctypes.data),
            *(last - first, scratch.ctypes.data),
        )
        kept = after
    np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(kept, np.array(inputs[n:], np.float32))


@pytest.mark.parametrize("rule", ["mamba2", "delta"])
def test_a_memory_of_a_text_in_two_parts(kernels: Any, kernels_of: Callable[[str], Any], rule: str) -> None:
    """The kernels of every instruction set: the same bits, which are those of the recurrence in float64."""
    rng = np.random.default_rng(4)
    n, state_dim, head_dim = 7, 32, 48
    rows = rng.standard_normal((n, 2 * state_dim + 2 * head_dim)).astype(np.float32)  # q, k, v, z
    q, k, v, z = np.split(rows.astype(float), np.cumsum([state_dim, state_dim, head_dim]), axis=1)
    factors = rng.uniform(0.1, 0.9, (n, 4)).astype(np.float32)
    begin, weight = rng.standard_normal((state_dim, head_dim)), rng.standard_normal(head_dim)
    weight, numbers = weight.astype(np.float32), np.array([1 / head_dim, 1e-5], np.float32)

    def computed(library: Any) -> tuple[np.ndarray, np.ndarray]:
        """What is read, and the memory, in strips."""
        memory = begin.reshape(state_dim, -1, 16).swapaxes(0, 1).astype(np.float32).copy()
        out = np.zeros((n, head_dim), np.float32)
        for first, last in ((0, 3), (3, n)):
            at, kept = rows[first:].ctypes.data, np.zeros_like(memory)
            places = [at + 4 * i for i in (0, state_dim, 2 * state_dim)]
            own, stride, steps = out[first:].ctypes.data, rows.strides[0], last - first
            getattr(library, f"recur_{rule}")(
                *(*places, stride, factors[first:].ctypes.data, memory.ctypes.data, kept.ctypes.data),
                *(state_dim, head_dim, steps, own, out.strides[0]),
            )
            gates = at + 4 * (2 * state_dim + head_dim)
            getattr(library, f"gate_memory_{rule}")(
                *(own, out.strides[0], places[2], gates, stride, weight.ctypes.data, numbers.ctypes.data),
                *(head_dim, steps),
            )
            memory = kept
        return out, memory

    wanted, memory = np.zeros((n, head_dim)), begin.copy()
    for t, (fade, gain, key, query) in enumerate(factors.astype(float)):
        memory *= fade
        known = key * k[t] @ memory if rule == "delta" else 0.0
        memory += np.outer(key * k[t], gain * (v[t] - known))
        y = query * q[t] @ memory
        norm = np.sqrt((y**2).mean() + 1e-5)
        wanted[t] = (y / norm * weight if rule == "delta" else y + weight[0] * v[t]) * silu(z[t])
    out, kept = computed(kernels)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept.swapaxes(0, 1).reshape(memory.shape), memory, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip((out, kept), computed(kernels_of("portable")), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_only_layers_with_attention_have_keys(toys: SimpleNamespace) -> None:
    model = toys.load(toys.checkpoint("Q8_0", **DELTA))
    all_attend = toys.load(toys.checkpoint("Q8_0", n_layers=4))
    cache, usual = model.new_cache(128), all_attend.new_cache(128)
    assert 4 * (cache.nbytes - cache.states.nbytes) == usual.nbytes
    assert usual.states.nbytes == 0


def test_filters_stay_float32_and_count(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q8_0", **CONV)
    plan = plan_packing(checkpoint.config, checkpoint.tensors)
    assert sorted(plan.filters) == ["layers.0.conv", "layers.1.conv", "layers.3.conv"]
    without = replace(plan, filters={})
    assert plan.nbytes - without.nbytes >= 3 * 4 * 64 * 3


@pytest.mark.parametrize(
    ("base", "changes", "sentence"),
    [
        (DELTA, {"state_dim": 24}, "state_dim is 24; the compiled backend needs a multiple of 16"),
        (
            MAMBA,
            {"state_head_dim": 24, "state_heads": 8},
            "head_dim of a state is 24; the compiled backend needs",
        ),
        (CONV, {"dim": 48}, "the width of a layer with a state is 48; the compiled backend needs"),
        (CONV, {"n_heads": 5, "n_kv_heads": 1}, "the width of all queries is 80; the compiled backend"),
    ],
)
def test_shapes_that_are_declined(
    toys: SimpleNamespace, base: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    checkpoint = toys.checkpoint("F32", **{**base, **changes})
    config: ModelConfig = checkpoint.config
    assert (shape_problem(config) or "").startswith(sentence)
    with pytest.raises(UnsupportedModelError, match="use --backend numpy"):
        toys.load(checkpoint)
