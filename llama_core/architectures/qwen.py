"""Qwen 2 and 2.5 (arXiv:2407.10671): biases on q, k and v. Qwen 3 (arXiv:2505.09388): norms of q and k, and
experts in Qwen3-MoE.

The text parts of Qwen2-VL, Qwen2.5-VL and Qwen3-VL are these. Their RoPE counts positions of text, height and
width apart for pictures; for text the three are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys
from llama_core.config import ModelConfig

# What config.json need not say.
DEFAULT_FULL_LAYERS = 28
DEFAULTS = {"sliding_window": 4096}


def _window(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The window of config.json: off unless asked for, and then in the layers from max_window_layers on. No
    GGUF file has one."""
    if not keys.boolean("use_sliding_window", False):
        return decoder.NO_WINDOW
    found: dict[str, Any] = decoder.window(keys, "sliding_window", fields)
    full = keys.integer("max_window_layers", DEFAULT_FULL_LAYERS)
    layers = decoder.window_layers(keys, fields) or tuple(i >= full for i in range(fields["n_layers"]))
    return found | {"window_layers": layers} if found["sliding_window"] and any(layers) else decoder.NO_WINDOW


def _with_norms(_keys: Keys, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True}


def _with_norms_and_window(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True, **_window(keys, fields)}


def _moe_from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    hidden_dim = keys.integer("expert_feed_forward_length", fields["hidden_dim"])
    return {"qk_norm": True, "hidden_dim": hidden_dim}


def _moe_from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """intermediate_size belongs to layers without experts, of which published models have none."""
    if keys.has("mlp_only_layers") and keys.items("mlp_only_layers"):
        raise keys.error("mlp_only_layers", "names layers without experts; experts in all layers would work")
    if keys.integer("decoder_sparse_step", 1) != 1:
        raise keys.error("decoder_sparse_step", "leaves layers without experts; 1 would work")
    own = {"n_experts": keys.integer("num_experts")} if keys.has("num_experts") else {}
    return {
        "qk_norm": True,
        "hidden_dim": keys.integer("moe_intermediate_size"),
        "experts_normalised": keys.boolean("norm_topk_prob", False),
        **own,
        **_window(keys, fields),
    }


def _moe_to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    return {"expert_feed_forward_length": config.hidden_dim}


QWEN2 = Architecture(
    name="qwen2",
    gguf=("qwen2", "qwen2vl"),
    huggingface=("qwen2", "qwen2_vl_text", "qwen2_5_vl_text"),
    describe=decoder.describe,
    tensors=decoder.tensors,
    from_huggingface=_window,
    defaults=DEFAULTS,
)

QWEN3 = Architecture(
    name="qwen3",
    gguf=("qwen3", "qwen3vl"),
    huggingface=("qwen3", "qwen3_vl_text"),
    describe=decoder.describe,
    tensors=decoder.tensors,
    from_gguf=_with_norms,
    from_huggingface=_with_norms_and_window,
    defaults={"head_dim": 128, **DEFAULTS},
)

_EXPERTS = decoder.ExpertNames(
    router="mlp.gate",
    gate="mlp.experts.{e}.gate_proj",
    up="mlp.experts.{e}.up_proj",
    down="mlp.experts.{e}.down_proj",
)

QWEN3_MOE = Architecture(
    name="qwen3moe",
    gguf=("qwen3moe",),
    huggingface=("qwen3_moe",),
    describe=decoder.describe,
    tensors=decoder.tensors_with_experts(_EXPERTS),
    keys=decoder.EXPERT_KEYS,
    from_gguf=_moe_from_gguf,
    from_huggingface=_moe_from_huggingface,
    to_gguf=_moe_to_gguf,
    defaults=DEFAULTS,
)
