"""LFM2 (Liquid AI, arXiv:2511.23404): gated short convolutions, and attention in some layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Key, Keys, Layer, TensorSpec
from llama_core.architectures.recurrent import ShortConv
from llama_core.config import ModelConfig

KINDS = (("conv",), ("full_attention",))


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        found = decoder.layer(config, i)
        if decoder.is_recurrent(config, i):
            return replace(found, mixer=ShortConv(config.dim, config.conv_kernel))
        return found

    return decoder.with_layers(config, layer)


def _recurrent(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    """in_proj, the filters and o_proj, with the biases that a file may have."""
    spec, dim = ShortConv(config.dim, config.conv_kernel), config.dim
    for name, shape, gguf, huggingface in (
        ("in_proj", (spec.in_dim, dim), "shortconv.in_proj", "conv.in_proj"),
        ("conv", (dim, spec.kernel), "shortconv.conv", "conv.conv"),
        ("o_proj", (dim, dim), "shortconv.out_proj", "conv.out_proj"),
    ):
        yield replace(decoder.weight(i, name, shape, gguf, huggingface), exact=name == "conv")
        yield decoder.bias(i, name, shape[0], gguf, huggingface, optional="conv")


_NAMES = decoder.Names(
    norm=("token_embd_norm", "model.embedding_norm"),
    norms={
        "input_layernorm": ("attn_norm", "operator_norm"),
        "post_attention_layernorm": ("ffn_norm", "ffn_norm"),
    },
    q_norm="self_attn.q_layernorm",
    k_norm="self_attn.k_layernorm",
    o_proj="self_attn.out_proj",
    recurrent=_recurrent,
    feed_forward=partial(
        decoder.dense_tensors, names=("feed_forward.w1", "feed_forward.w3", "feed_forward.w2")
    ),
)


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True, "recurrent_layers": decoder.layers_without_kv(keys, fields["n_layers"])}


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Published files say the width of the feed-forward, the base of RoPE, the norms' epsilon and a tied head
    by names of their own."""
    layers = decoder.layers_of_kinds(keys, fields["n_layers"], *KINDS)
    if not layers and keys.has("full_attn_idxs"):
        full = keys.items("full_attn_idxs")
        layers = tuple(i not in full for i in range(fields["n_layers"]))
    return {
        "qk_norm": True,
        "recurrent_layers": layers,
        "norm_eps": keys.number("norm_eps", fields["norm_eps"]),
        "hidden_dim": _hidden_dim(keys, fields["hidden_dim"]),
        "tie_embeddings": keys.boolean("tie_embedding", fields["tie_embeddings"]),
        "rope_theta": keys.number("theta", fields["rope_theta"]),
    }


def _hidden_dim(keys: Keys, wide: int) -> int:
    """SwiGLU has three matrices where others have two: 2 / 3 of the width, times a factor, up to a whole
    multiple."""
    wide = keys.integer("block_ff_dim", wide)
    factor, multiple = keys.number("block_ffn_dim_multiplier", 1.0), keys.integer("block_multiple_of", 256)
    if not keys.boolean("block_auto_adjust_ff_dim", True):
        return wide
    narrow, multiple = int(factor * int(2 * wide / 3)), max(1, multiple)
    return -(-narrow // multiple) * multiple


LFM2 = Architecture(
    name="lfm2",
    gguf=("lfm2",),
    huggingface=("lfm2",),
    describe=_describe,
    tensors=partial(decoder.tensors, names=_NAMES),
    keys=(Key("conv_kernel", "shortconv.l_cache", "conv_L_cache", whole=True),),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=decoder.kv_heads_by_layer,
    defaults={
        "norm_eps": 1e-5,
        "rope_theta": 1e6,
        "tie_embeddings": True,
        "conv_kernel": 3,
        "hidden_dim": 12288,
    },
)
