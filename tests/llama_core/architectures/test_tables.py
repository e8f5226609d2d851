"""Each family's tables against llama.cpp's own names, which the `gguf` package carries."""

from __future__ import annotations

import re

import gguf
import pytest
from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

from llama_core.architectures import ALL, architecture_of, describe, find, known, tensor_specs
from llama_core.architectures.base import Architecture, Rope
from llama_core.config import ModelConfig

SHAPE = {
    "dim": 64,
    "hidden_dim": 96,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "max_seq_len": 128,
}
KEYS = {
    value.replace("{arch}.", "")
    for group in (gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope, gguf.Keys.SSM, gguf.Keys.ShortConv)
    for value in vars(group).values()
    if isinstance(value, str)
}
# Names that older files have and llama.cpp no longer lists.
OURS_ALONE = {"mistral"}
WITH_EXPERTS = {"mixtral", "qwen3moe", "granitemoe", "gpt-oss"}
WITH_STATES = {"qwen35", "lfm2", "granitehybrid"}
STATES = {
    "recurrent_layers": (True, False),
    "conv_kernel": 3,
    "state_heads": 4,
    "state_head_dim": 8,
    "state_dim": 16,
    "state_groups": 2,
}


def names() -> list[str]:
    return [architecture.name for architecture in ALL]


@pytest.fixture(params=names())
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return next(found for found in ALL if found.name == request.param)


def config_of(architecture: Architecture, **changes: object) -> ModelConfig:
    experts = {"n_experts": 4, "n_experts_used": 2} if architecture.name in WITH_EXPERTS else {}
    states = STATES if architecture.name in WITH_STATES else {}
    return ModelConfig(**{**SHAPE, "architecture": architecture.name, **experts, **states, **changes})


def test_every_name_finds_one_architecture() -> None:
    for kind in ("gguf", "huggingface"):
        listed = known(kind).split(", ")
        assert len(set(listed)) == len(listed)
        assert {find(kind, name).name for name in listed} <= set(names())
    assert len(set(names())) == len(ALL)


def test_tensors_have_llama_cpps_names(architecture: Architecture) -> None:
    numbers = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    wanted = {
        TENSOR_NAMES[tensor]
        for name in architecture.gguf
        if name not in OURS_ALONE
        for tensor in MODEL_TENSORS[numbers[name]]
    }
    config = config_of(architecture, tie_embeddings=architecture.defaults.get("tie_embeddings", False))
    for spec in architecture.tensors(config):
        plain = re.sub(r"^blk\.\d+\.", "blk.{bid}.", re.sub(r"\.(weight|bias)$", "", spec.gguf))
        optional = plain.startswith("rope_") or spec.name.endswith(".bias")
        assert not wanted or plain in wanted or optional, f"{spec.name}: {spec.gguf}"


def test_numbers_have_llama_cpps_keys(architecture: Architecture) -> None:
    assert {key.gguf for key in architecture.keys if key.gguf} <= KEYS
    assert set(architecture.to_gguf(config_of(architecture, sliding_window=32))) <= KEYS


def test_our_names_and_shapes_are_each_ones_own(architecture: Architecture) -> None:
    specs = list(architecture.tensors(config_of(architecture)))
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        assert all(size > 0 for size in spec.shape)
        assert spec.gguf
        assert not spec.rotated_heads or spec.shape[0] % spec.rotated_heads == 0


def test_a_group_of_optional_tensors_is_wanted_whole() -> None:
    config = ModelConfig(**SHAPE)
    plain = {spec.name for spec in tensor_specs(config, ())}
    more = {spec.name for spec in tensor_specs(config, {"layers.1.up_proj.bias"})} - plain
    assert more == {f"layers.{i}.{name}_proj.bias" for i in range(2) for name in ("gate", "up")}


def test_layers_follow_the_configs_numbers() -> None:
    config = ModelConfig(
        **SHAPE, sliding_window=32, window_layers=(True, False), window_rope_theta=5e3, rope_dim=8,
        rope_layers=(True, False), residual_scale=0.5, attention_scale=0.1, attention_softcap=50.0,
        temperature_beta=0.2, temperature_length=64, logit_divisor=8.0, embedding_scale=3.0,
    )  # fmt: skip
    model = describe(config)
    first, second = (layer.attention for layer in model.layers)
    assert (first.window, second.window) == (32, 0)
    assert (first.rope, second.rope) == (Rope(5e3, 8), None)
    assert {first.scale, second.scale} == {0.1}
    assert first.softcap == 50.0
    assert first.temperature is not None
    assert (model.logit_scale, model.embedding_scale, model.layers[0].residual_scale) == (0.125, 3.0, 0.5)
    alike = describe(ModelConfig(**SHAPE)).layers
    assert alike[0] is alike[1]


BAD: dict[str, dict[str, object]] = {
    "recurrent_layers": {"recurrent_layers": (True,)},
    "conv_kernel": {"recurrent_layers": (True, False)},
    "all or none": {**STATES, "state_dim": 0},
    "state_groups": {**STATES, "state_groups": 3},
    "state_heads": {**STATES, "state_heads": -4},
    "window_layers": {"window_layers": (True,)},
    "rope_layers": {"rope_layers": (True,) * 3},
    "embedding_scale": {"embedding_scale": float("inf")},
    "logit_divisor": {"logit_divisor": 0.0},
    "attention_softcap": {"attention_softcap": -1.0},
    "temperature_length": {"temperature_beta": 0.1},
}


@pytest.mark.parametrize("name", BAD)
def test_numbers_that_belong_to_no_model(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ModelConfig(**SHAPE, **BAD[name])


def test_an_unknown_architecture_is_no_silent_llama() -> None:
    with pytest.raises(KeyError):
        architecture_of(ModelConfig(**SHAPE, architecture="bloom"))
