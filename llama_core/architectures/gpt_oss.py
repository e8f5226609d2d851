"""gpt-oss (OpenAI, arXiv:2508.10925): experts with clamped SwiGLU, sinks, biases everywhere, windows in every
second layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Keys, Layer, TensorSpec
from llama_core.config import ModelConfig

PERIOD = 2
LIMIT, ALPHA = 7.0, 1.702


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        found = decoder.layer(config, i)
        experts = found.feed_forward.experts
        return replace(
            found,
            mixer=replace(found.attention, sinks=True),
            feed_forward=replace(
                found.feed_forward,
                activation="clamped_swiglu",
                experts=None if experts is None else replace(experts, bias=True),
            ),
        )

    return decoder.with_layers(config, layer)


def _attention(config: ModelConfig, i: int, names: decoder.Names) -> Iterator[TensorSpec]:
    yield from decoder.attention_tensors(config, i, names)
    sinks = decoder.weight(i, "sinks", (config.n_heads,), "attn_sinks", "")
    yield replace(sinks, huggingface=f"model.layers.{i}.self_attn.sinks")


def _experts(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    """Hugging Face's files hold the experts' matrices the other way round, columns of gate and up by
    turns."""
    at = f"model.layers.{i}.mlp."
    yield replace(
        decoder.weight(i, "router", (config.n_experts, config.dim), "ffn_gate_inp", "mlp.router"), exact=True
    )
    yield decoder.bias(i, "router", config.n_experts, "ffn_gate_inp", "mlp.router")
    for e in range(config.n_experts):
        for name, gguf, rows, columns, foreign in (
            ("gate_proj", "ffn_gate_exps", config.hidden_dim, config.dim, "experts.gate_up_proj"),
            ("up_proj", "ffn_up_exps", config.hidden_dim, config.dim, "experts.gate_up_proj"),
            ("down_proj", "ffn_down_exps", config.dim, config.hidden_dim, "experts.down_proj"),
        ):
            own = f"experts.{e}.{name}"
            weight = decoder.weight(i, own, (rows, columns), gguf, "")
            yield replace(weight, huggingface=at + foreign, stacked=True, by_columns=True)
            bias = decoder.bias(i, own, rows, gguf, "")
            yield replace(bias, huggingface=f"{at}{foreign}_bias", stacked=True, by_columns=True)


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    scaling = fields["rope_scaling"]
    # Its ramp begins and ends between pairs; GGUF has no key for that.
    own = {} if scaling is None else {"rope_scaling": replace(scaling, truncate=False)}
    return {**decoder.gguf_windows(keys, fields, PERIOD), **own}


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, only in (("swiglu_limit", LIMIT), ("swiglu_alpha", ALPHA)):
        if keys.number(key, only) != only:
            raise keys.error(key, f"is {keys.number(key)}; {only} would work")
    return decoder.windows(keys, fields, PERIOD)


_NAMES = decoder.Names(
    norms={
        "input_layernorm": ("attn_norm", "input_layernorm"),
        "post_attention_layernorm": ("post_attention_norm", "post_attention_layernorm"),
    },
    attention=_attention,
    experts=_experts,
)

GPT_OSS = Architecture(
    name="gpt-oss",
    gguf=("gpt-oss",),
    huggingface=("gpt_oss",),
    describe=_describe,
    tensors=partial(decoder.tensors, names=_NAMES),
    keys=decoder.EXPERT_KEYS,
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=decoder.to_gguf_windows,
    defaults={"norm_eps": 1e-5, "rope_theta": 1.5e5, "head_dim": 64, "sliding_window": 128},
)
