"""Hunyuan, dense (Tencent, 2025): Llama with norms of q and k behind RoPE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Keys, Layer
from llama_core.config import ModelConfig


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        attention = replace(decoder.attention(config, i), norm_after_rope=True)
        return replace(decoder.layer(config, i), mixer=attention)

    return decoder.with_layers(config, layer)


def _with_norms(_keys: Keys, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True}


HUNYUAN_DENSE = Architecture(
    name="hunyuan-dense",
    gguf=("hunyuan-dense",),
    huggingface=("hunyuan_v1_dense",),
    describe=_describe,
    tensors=partial(
        decoder.tensors,
        names=decoder.Names(q_norm="self_attn.query_layernorm", k_norm="self_attn.key_layernorm"),
    ),
    from_gguf=_with_norms,
    from_huggingface=_with_norms,
    defaults={"norm_eps": 1e-5},
)
