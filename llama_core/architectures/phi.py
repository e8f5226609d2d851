"""Phi-3 (arXiv:2404.14219) and Phi-4-mini (arXiv:2503.01743): Llama with q, k and v in one tensor and gate
and up in another; heads rotated in part; LongRoPE (arXiv:2402.13753)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys, TensorSpec
from llama_core.config import ModelConfig

_FUSED = {
    "q_proj": ("attn_qkv", "self_attn.qkv_proj"),
    "k_proj": ("attn_qkv", "self_attn.qkv_proj"),
    "v_proj": ("attn_qkv", "self_attn.qkv_proj"),
    "gate_proj": ("ffn_up", "mlp.gate_up_proj"),
    "up_proj": ("ffn_up", "mlp.gate_up_proj"),
}


def _tensors(config: ModelConfig) -> Iterator[TensorSpec]:
    for spec in decoder.tensors(config):
        *_, i, part = ("", *spec.name.split(".", 2)[1:]) if spec.name.startswith("layers.") else ("", "", "")
        if part in _FUSED:
            gguf, huggingface = _FUSED[part]
            yield replace(
                spec, gguf=f"blk.{i}.{gguf}.weight", huggingface=f"model.layers.{i}.{huggingface}.weight"
            )
        elif part.removesuffix(".bias") not in _FUSED:
            yield spec


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return decoder.window(keys, "sliding_window", fields)


PHI3 = Architecture(
    name="phi3",
    gguf=("phi3",),
    huggingface=("phi3",),
    describe=decoder.describe,
    tensors=_tensors,
    from_huggingface=_from_huggingface,
    defaults={"norm_eps": 1e-5},
)
