"""Gemma 2 (arXiv:2408.00118) and 3 (arXiv:2503.19786): GELU, norms before and behind each sub-layer, scaled
embeddings, windows; in Gemma 2 soft caps, in Gemma 3 norms of q and k and two bases of RoPE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Key, Keys, Layer, TensorSpec
from llama_core.config import ModelConfig

# Windows in all layers but each second (Gemma 2) or sixth (Gemma 3).
PERIODS = {"gemma2": 2, "gemma3": 6}
WINDOW_THETA = 10000.0
# The size whose scores are scaled by the dimensions of a query head as if the heads shared `dim`: GGUF has no
# key for that, llama.cpp knows it by the number of layers.
LARGEST = {"gemma2": 46, "gemma3": 62}
_NAMES = decoder.Names(
    norms={
        "input_layernorm": ("attn_norm", "input_layernorm"),
        "attention_out_norm": ("post_attention_norm", "post_attention_layernorm"),
        "post_attention_layernorm": ("ffn_norm", "pre_feedforward_layernorm"),
        "feed_forward_out_norm": ("post_ffw_norm", "post_feedforward_layernorm"),
    }
)


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        found = decoder.layer(config, i)
        return replace(
            found, norm_after=True, feed_forward=replace(found.feed_forward, activation="gelu_tanh")
        )

    return decoder.with_layers(config, layer)


def _tensors(config: ModelConfig) -> Iterator[TensorSpec]:
    """Hugging Face's norms are the weight less 1; GGUF's are the weight."""
    for spec in decoder.tensors(config, _NAMES):
        yield replace(spec, stored="less_one" if "norm" in spec.name else "")


def _shared(fields: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"embedding_scale": math.sqrt(fields["dim"])}
    if fields["architecture"] == "gemma3":
        own |= {"qk_norm": True}
    return own


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    name = fields["architecture"]
    found = _shared(fields) | decoder.gguf_windows(keys, fields, PERIODS[name])
    if fields["n_layers"] == LARGEST[name]:
        found["attention_scale"] = (fields["dim"] / fields["n_heads"]) ** -0.5
    if name == "gemma3" and found["sliding_window"]:
        found["window_rope_theta"] = keys.number("rope.freq_base_swa", WINDOW_THETA)
    return found


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    name = fields["architecture"]
    if keys.boolean("use_bidirectional_attention", False):
        raise keys.error("use_bidirectional_attention", "is true; models that read forwards alone would work")
    period = keys.integer("_sliding_window_pattern", keys.integer("sliding_window_pattern", PERIODS[name]))
    found = _shared(fields) | decoder.windows(keys, fields, period)
    scale = keys.number("query_pre_attn_scalar", 256.0) ** -0.5
    if scale != fields["head_dim"] ** -0.5:
        found["attention_scale"] = scale
    if name == "gemma3" and found["sliding_window"] and "window_rope_theta" not in fields:
        found["window_rope_theta"] = keys.number("rope_local_base_freq", WINDOW_THETA)
    return found


def _to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    own = {"rope.freq_base_swa": config.window_rope_theta} if config.window_rope_theta else {}
    return decoder.to_gguf_windows(config) | own


CAPS = (
    Key("attention_softcap", "attn_logit_softcapping", "attn_logit_softcapping"),
    Key("logit_softcap", "final_logit_softcapping", "final_logit_softcapping"),
)

# The text part of the models that see says no more than what is different.
GEMMA3_DEFAULTS: dict[str, Any] = {
    "dim": 2304,
    "hidden_dim": 9216,
    "n_layers": 26,
    "n_heads": 8,
    "n_kv_heads": 4,
    "vocab_size": 262_208,
    "max_seq_len": 131_072,
    "rope_theta": 1e6,
}
DEFAULTS = {"head_dim": 256, "tie_embeddings": True, "sliding_window": 4096}

GEMMA2, GEMMA3 = (
    Architecture(
        name=name,
        gguf=(name,),
        huggingface=(model_type,),
        describe=_describe,
        tensors=_tensors,
        keys=CAPS,
        from_gguf=_from_gguf,
        from_huggingface=_from_huggingface,
        to_gguf=_to_gguf,
        activations=("gelu_pytorch_tanh",),
        defaults=DEFAULTS | own,
    )
    for name, model_type, own in (
        ("gemma2", "gemma2", {"attention_softcap": 50.0, "logit_softcap": 30.0}),
        ("gemma3", "gemma3_text", GEMMA3_DEFAULTS),
    )
)
