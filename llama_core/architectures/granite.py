"""Granite 3 and 4, dense (IBM): Llama with four scalars. Granite MoE: the same with experts. Granite 4
hybrid: most layers have Mamba-2 instead of attention, which knows no positions then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Key, Keys, Layer, TensorSpec
from llama_core.architectures.recurrent import Mamba2
from llama_core.config import ModelConfig

SCALARS = (
    Key("embedding_scale", "embedding_scale", "embedding_multiplier"),
    Key("residual_scale", "residual_scale", "residual_multiplier"),
    Key("attention_scale", "attention.scale", "attention_multiplier"),
    Key("logit_divisor", "logit_scale", "logits_scaling"),
)
DEFAULTS = {"attention_scale": 1.0}

GRANITE = Architecture(
    name="granite",
    gguf=("granite",),
    huggingface=("granite",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    keys=SCALARS,
    defaults=DEFAULTS,
)

# An expert's gate and up stand in one tensor, those of all experts one after the other.
_EXPERTS = decoder.ExpertNames(
    router="block_sparse_moe.router.layer",
    gate="block_sparse_moe.input_linear",
    up="block_sparse_moe.input_linear",
    down="block_sparse_moe.output_linear",
)

GRANITE_MOE = Architecture(
    name="granitemoe",
    gguf=("granitemoe",),
    huggingface=("granitemoe",),
    describe=decoder.describe,
    tensors=decoder.tensors_with_experts(_EXPERTS),
    interleaved=frozenset({"gguf"}),
    keys=(*SCALARS, *decoder.EXPERT_KEYS),
    defaults=DEFAULTS,
)

KINDS = (("mamba", "linear_attention"), ("attention", "full_attention"))
UNLIMITED = ([0.0, math.inf], [0.0, {"__float__": "Infinity"}])  # as JSON's writers have it
INNER_KEY, ROPE_KEY = "ssm.inner_size", "rope.scaling.finetuned"


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        found = decoder.layer(config, i)
        return replace(found, mixer=Mamba2.of(config)) if decoder.is_recurrent(config, i) else found

    return decoder.with_layers(config, layer)


def _recurrent(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    spec = Mamba2.of(config)
    yield decoder.weight(i, "in_proj", (spec.in_dim, config.dim), "ssm_in", "mamba.in_proj")
    yield decoder.bias(i, "in_proj", spec.in_dim, "ssm_in", "mamba.in_proj", optional="in")
    conv = decoder.weight(i, "conv", (spec.conv_dim, spec.kernel), "ssm_conv1d", "mamba.conv1d")
    yield replace(conv, exact=True)
    yield decoder.bias(i, "conv", spec.conv_dim, "ssm_conv1d", "mamba.conv1d", optional="conv")
    yield decoder.vector(i, "dt_bias", spec.n_heads, "ssm_dt.bias", "mamba.dt_bias")
    decay = decoder.vector(i, "decay", spec.n_heads, "ssm_a", "mamba.A_log")
    yield replace(decay, stored="log_of_negative")
    yield decoder.vector(i, "skip", spec.n_heads, "ssm_d", "mamba.D")
    yield decoder.weight(i, "state_norm", (spec.out_dim,), "ssm_norm", "mamba.norm")
    yield decoder.weight(i, "o_proj", (config.dim, spec.out_dim), "ssm_out", "mamba.out_proj")
    yield decoder.bias(i, "o_proj", config.dim, "ssm_out", "mamba.out_proj", optional="out")


_NAMES = decoder.Names(
    recurrent=_recurrent,
    feed_forward=partial(
        decoder.dense_tensors,
        names=("shared_mlp.input_linear", "shared_mlp.input_linear", "shared_mlp.output_linear"),
    ),
)


def _without_positions(n_layers: int) -> Mapping[str, Any]:
    return {"rope_layers": (False,) * n_layers}


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if keys.integer("expert_count", 0):
        raise keys.error("expert_count", "says that it has experts; a hybrid without experts would work")
    n_layers = fields["n_layers"]
    own = {} if keys.boolean(ROPE_KEY, True) else _without_positions(n_layers)
    return {
        "recurrent_layers": decoder.layers_without_kv(keys, n_layers),
        "state_head_dim": keys.integer(INNER_KEY, 0) // max(1, keys.integer("ssm.time_step_rank", 0)),
        **own,
    }


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if keys.integer("num_local_experts", 0):
        raise keys.error("num_local_experts", "says that it has experts; a hybrid without experts would work")
    keys.has("num_experts_per_tok")  # of none
    if keys.text("normalization_function", "rmsnorm") != "rmsnorm":
        raise keys.error("normalization_function", "is another than rmsnorm, which would work")
    n_layers = fields["n_layers"]
    layers = decoder.layers_of_kinds(keys, n_layers, *KINDS)
    own: dict[str, Any] = {"hidden_dim": keys.integer("shared_intermediate_size", fields["hidden_dim"])}
    if keys.text("position_embedding_type", "nope") != "rope":
        own |= _without_positions(n_layers)
    if keys.has("time_step_limit") and keys.items("time_step_limit")[:2] not in UNLIMITED:
        raise keys.error("time_step_limit", "bounds the time steps; 0 to infinity would work")
    if not any(layers):  # the smallest of the family: its numbers of states say nothing
        return own | dict.fromkeys(("conv_kernel", "state_heads", "state_groups", "state_dim"), 0)
    inner = keys.integer("mamba_expand", 2) * fields["dim"]
    return {"recurrent_layers": layers, "state_head_dim": inner // max(1, fields["state_heads"]), **own}


def _to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    if not any(config.recurrent_layers):
        return {}
    inner = config.state_heads * config.state_head_dim
    return {INNER_KEY: inner, ROPE_KEY: not config.rope_layers, **decoder.kv_heads_by_layer(config)}


GRANITE_HYBRID = Architecture(
    name="granitehybrid",
    gguf=("granitehybrid",),
    huggingface=("granitemoehybrid",),
    describe=_describe,
    tensors=partial(decoder.tensors, names=_NAMES),
    interleaved=frozenset({"gguf"}),
    keys=(
        *SCALARS,
        Key("conv_kernel", "ssm.conv_kernel", "mamba_d_conv", whole=True),
        Key("state_heads", "ssm.time_step_rank", "mamba_n_heads", whole=True),
        Key("state_groups", "ssm.group_count", "mamba_n_groups", whole=True),
        Key("state_dim", "ssm.state_size", "mamba_d_state", whole=True),
    ),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=_to_gguf,
    gguf_name=lambda config: "granitehybrid" if any(config.recurrent_layers) else "granite",
    defaults={
        **DEFAULTS,
        "conv_kernel": 4,
        "state_heads": 128,
        "state_groups": 1,
        "state_dim": 256,
    },
)
