"""What a layer's description may ask for, the compiled step computes as NumPy does, or declines in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core import architectures
from llama_core.architectures import decoder
from llama_core.architectures.base import (
    Architecture,
    Description,
    FeedForward,
    Layer,
    QueryTemperature,
    Rope,
    TensorSpec,
)
from llama_core.backends.jit.plan import ACTIVATIONS, shape_problem
from llama_core.backends.jit.program import GATED
from llama_core.config import ModelConfig
from llama_core.errors import UnsupportedModelError
from tests.support.cut_texts import bits_of, numpy_logits

Change = Callable[[Layer, int], Layer]


def attention(**changes: Any) -> Change:
    return lambda layer, i: replace(layer, mixer=replace(layer.attention, **changes))


def each(*changes: Change) -> Change:
    """Layer 0 as the first change has it, layer 1 as the second, and so on in turn."""
    return lambda layer, i: changes[i % len(changes)](layer, i)


def plain(layer: Layer, i: int) -> Layer:
    return layer


LAYERS: dict[str, Change] = {
    "scale of attention": attention(scale=0.05),
    "residual scale": lambda layer, i: replace(layer, residual_scale=0.22),
    "norms behind": lambda layer, i: replace(layer, norm_after=True),
    "norms behind only": lambda layer, i: replace(layer, norm_after=True, norm_before=False),
    "norms behind, scaled": lambda layer, i: replace(layer, norm_after=True, residual_scale=0.4),
    "gelu": lambda layer, i: replace(layer, feed_forward=replace(layer.feed_forward, activation="gelu_tanh")),
    "clamped swiglu": lambda layer, i: replace(
        layer, feed_forward=replace(layer.feed_forward, activation="clamped_swiglu")
    ),
    "soft cap": attention(softcap=1.5),
    "sinks": attention(sinks=True),
    "sinks and windows": attention(sinks=True, window=20),
    "some dimensions turned": attention(rope=Rope(1e4, 12)),
    "few dimensions turned": attention(rope=Rope(1e4, 6)),
    "no positions": attention(rope=None),
    "positions in every other layer": each(attention(rope=None), plain),
    "windows in every other layer": each(attention(window=20), plain),
    "window and positions of its own": each(attention(window=70, rope=Rope(500.0, 16)), plain),
    "temperature": attention(temperature=QueryTemperature(0.5, 40)),
    "norm by head": attention(qk_norm="head"),
    "norm by head after positions": attention(qk_norm="head", norm_after_rope=True),
    "norm over all heads": attention(qk_norm="width"),
}
MODELS: dict[str, dict[str, float]] = {
    "embedding scale": {"embedding_scale": 8.0},
    "logit scale": {"logit_scale": 0.125},
    "logit soft cap": {"logit_softcap": 3.0},
    "logit scale and soft cap": {"logit_scale": 2.0, "logit_softcap": 3.0},
}


def extra_tensors(config: ModelConfig, layers: tuple[Layer, ...]) -> Iterator[TensorSpec]:
    """What the description's norms need beyond the decoder's own."""
    for i, layer in enumerate(layers):
        sizes = {}
        if layer.norm_after:
            sizes |= {"attention_out_norm": config.dim, "feed_forward_out_norm": config.dim}
        if layer.attention.qk_norm == "head":
            sizes |= {"q_norm": config.head_dim, "k_norm": config.head_dim}
        elif layer.attention.qk_norm == "width":
            sizes |= {"q_norm": config.q_dim, "k_norm": config.kv_dim}
        if layer.attention.sinks:
            sizes |= {"sinks": config.n_heads}
        for name, size in sizes.items():
            yield TensorSpec(f"layers.{i}.{name}", (size,), "", "")


@pytest.fixture
def describe_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """describe_as(change of each layer, numbers of the description): what the architecture "toy" computes."""

    def describe_as(change: Change, **numbers: float) -> None:
        def describe(config: ModelConfig) -> Description:
            made = decoder.describe(config)
            layers = tuple(change(layer, i) for i, layer in enumerate(made.layers))
            return replace(made, layers=layers, **numbers)  # type: ignore[arg-type]

        def tensors(config: ModelConfig) -> Iterator[TensorSpec]:
            layers = describe(config).layers
            for spec in decoder.tensors(config):
                part = architectures.layer_part(spec.name)
                named = part != spec.name and part in ("input_layernorm", "post_attention_layernorm")
                if not named or layers[int(spec.name.split(".")[1])].norm_before:
                    yield spec
            yield from extra_tensors(config, layers)

        toy = Architecture("toy", ("toy",), ("toy",), describe, tensors)
        monkeypatch.setitem(architectures._BY_NAME, "toy", toy)

    return describe_as


def check_against_numpy(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q8_0", architecture="toy", n_layers=4)
    ours, theirs = bits_of(toys, checkpoint), numpy_logits(checkpoint)
    error = np.sqrt(((ours - theirs) ** 2).mean()) / theirs.std()
    assert 0 < error < 0.04, error


@pytest.mark.parametrize("case", LAYERS)
def test_layers_agree_with_numpy(toys: SimpleNamespace, describe_as: Callable[..., None], case: str) -> None:
    describe_as(LAYERS[case])
    check_against_numpy(toys)


@pytest.mark.parametrize("case", MODELS)
def test_scales_of_the_model_agree_with_numpy(
    toys: SimpleNamespace, describe_as: Callable[..., None], case: str
) -> None:
    describe_as(plain, **MODELS[case])
    check_against_numpy(toys)


@pytest.mark.parametrize("case", [*LAYERS, *MODELS])
def test_each_of_them_shows_in_the_logits(
    toys: SimpleNamespace, describe_as: Callable[..., None], case: str
) -> None:
    """Else the tests above would hold for a step that leaves it out."""
    describe_as(plain)
    checkpoint = toys.checkpoint("Q8_0", architecture="toy", n_layers=4)
    without = numpy_logits(checkpoint)
    describe_as(LAYERS.get(case, plain), **MODELS.get(case, {}))
    checkpoint = toys.checkpoint("Q8_0", architecture="toy", n_layers=4)
    theirs = numpy_logits(checkpoint)
    assert np.sqrt(((without - theirs) ** 2).mean()) / theirs.std() > 0.08


def test_every_activation_that_is_not_declined_has_a_kernel() -> None:
    assert set(ACTIVATIONS) == set(GATED)


DECLINED: dict[str, tuple[Change, str]] = {
    "activation": (
        lambda layer, i: replace(layer, feed_forward=FeedForward(96, "relu")),  # type: ignore[arg-type]
        "its activation is relu; the compiled backend knows silu, gelu_tanh, clamped_swiglu",
    ),
    "shapes": (each(attention(n_kv_heads=6), plain), "its layers have heads of several shapes"),
    "hidden": (
        each(lambda layer, i: replace(layer, feed_forward=FeedForward(64)), plain),
        "its layers have several hidden_dim; the compiled backend needs one",
    ),
}


@pytest.mark.parametrize("case", DECLINED)
def test_what_the_step_cannot_do_it_declines_in_a_sentence(
    toys: SimpleNamespace, describe_as: Callable[..., None], case: str
) -> None:
    change, sentence = DECLINED[case]
    checkpoint = toys.checkpoint("Q8_0")
    describe_as(change)
    config = replace(checkpoint.config, architecture="toy")
    assert (shape_problem(config) or "").startswith(sentence)
    with pytest.raises(UnsupportedModelError, match="use --backend numpy"):
        toys.load(replace(checkpoint, config=config))
