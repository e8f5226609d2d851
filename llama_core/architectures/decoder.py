"""The decoder that all families share, from the numbers of a config: what a family changes, its file says.

Names of tensors (shapes are NumPy's, rows first; `i` is the layer, `e` an expert):

    embed_tokens                        (vocab_size, dim)
    layers.{i}.input_layernorm          (dim,)                      before attention
    layers.{i}.q_proj                   (n_heads * head_dim, dim)
    layers.{i}.k_proj, v_proj           (n_kv_heads * head_dim, dim)
    layers.{i}.q_norm, k_norm           (head_dim,) or the rows of q_proj, k_proj
    layers.{i}.o_proj                   (dim, n_heads * head_dim)
    layers.{i}.post_attention_layernorm (dim,)                      before the feed-forward
    layers.{i}.gate_proj, up_proj       (hidden_dim, dim)
    layers.{i}.down_proj                (dim, hidden_dim)
    norm                                (dim,)                      before the head
    lm_head                             (vocab_size, dim)           absent where the embedding serves
    rope_freqs                          (n_rotated / 2,)            optional divisors of RoPE's frequencies

Each projection may have a bias, such as layers.{i}.q_proj.bias, (rows,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_core.architectures.base import (
    Attention,
    Description,
    FeedForward,
    Keys,
    Layer,
    QueryTemperature,
    Rope,
    TensorSpec,
)
from llama_core.config import ModelConfig


def describe(config: ModelConfig) -> Description:
    """The description of a model that is no more than its config's numbers: Llama's, and its neighbours'."""
    return with_layers(config, lambda i: layer(config, i))


def with_layers(config: ModelConfig, make: Callable[[int], Layer]) -> Description:
    """The config's description with the layers that `make` gives; equal layers are one object."""
    layers: dict[Layer, Layer] = {}
    return Description(
        layers=tuple(layers.setdefault(made, made) for made in map(make, range(config.n_layers))),
        norm_eps=config.norm_eps,
        embedding_scale=config.embedding_scale,
        logit_scale=1.0 / config.logit_divisor,
        logit_softcap=config.logit_softcap,
    )


def layer(config: ModelConfig, i: int) -> Layer:
    """Layer i as the config's numbers have it: norms before both sub-layers, SwiGLU."""
    return Layer(attention(config, i), FeedForward(config.hidden_dim), residual_scale=config.residual_scale)


def attention(config: ModelConfig, i: int) -> Attention:
    """Attention of layer i, q and k normed by head where the config asks for norms."""
    windowed = bool(config.sliding_window) and (not config.window_layers or config.window_layers[i])
    scaling = config.rope_scaling
    if scaling is not None and not scaling.original_max_seq_len:
        scaling = replace(scaling, original_max_seq_len=config.max_seq_len)
    rope = Rope(config.rope_theta, config.n_rotated, scaling)
    if windowed and config.window_rope_theta:
        rope = Rope(config.window_rope_theta, config.n_rotated)
    temperature = None
    if config.temperature_beta:
        temperature = QueryTemperature(config.temperature_beta, config.temperature_length)
    return Attention(
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        scale=config.attention_scale or config.head_dim**-0.5,
        window=config.sliding_window if windowed else 0,
        rope=rope if not config.rope_layers or config.rope_layers[i] else None,
        softcap=config.attention_softcap,
        bias=config.attention_bias,
        qk_norm="head" if config.qk_norm else "",
        temperature=temperature,
    )


def tensors(config: ModelConfig) -> Iterator[TensorSpec]:
    """Every tensor that a model of this config may have, in the order in which a token reads them."""
    vocabulary = (config.vocab_size, config.dim)
    yield TensorSpec("embed_tokens", vocabulary, "token_embd.weight", "model.embed_tokens.weight")
    for i in range(config.n_layers):
        yield from layer_tensors(config, i)
    yield TensorSpec("norm", (config.dim,), "output_norm.weight", "model.norm.weight")
    if not config.tie_embeddings:
        yield TensorSpec("lm_head", vocabulary, "output.weight", "lm_head.weight")
    yield TensorSpec("rope_freqs", (config.n_rotated // 2,), "rope_freqs.weight", "", optional="rope_freqs")


def layer_tensors(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    """Layer i's: the norms before, attention, feed-forward."""
    dim, hidden = config.dim, config.hidden_dim
    yield weight(i, "input_layernorm", (dim,), "attn_norm", "input_layernorm")
    yield from attention_tensors(config, i)
    yield weight(i, "post_attention_layernorm", (dim,), "ffn_norm", "post_attention_layernorm")
    for name, gguf, shape, group in (
        ("gate_proj", "ffn_gate", (hidden, dim), "gate_up"),
        ("up_proj", "ffn_up", (hidden, dim), "gate_up"),
        ("down_proj", "ffn_down", (dim, hidden), "down"),
    ):
        yield weight(i, name, shape, gguf, f"mlp.{name}")
        yield bias(i, name, shape[0], gguf, f"mlp.{name}", optional=group)


def attention_tensors(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    """q, k and v with what belongs to them, and o."""
    dim, heads, kv_heads = config.dim, config.n_heads, config.n_kv_heads
    for part, n_heads, rotated in (("q", heads, heads), ("k", kv_heads, kv_heads), ("v", kv_heads, 0)):
        name, gguf, rows = f"{part}_proj", f"attn_{part}", n_heads * config.head_dim
        yield weight(i, name, (rows, dim), gguf, f"self_attn.{name}", rotated_heads=rotated)
        if config.attention_bias:
            yield bias(i, name, rows, gguf, f"self_attn.{name}", rotated_heads=rotated)
    if config.qk_norm:
        yield weight(i, "q_norm", (config.head_dim,), "attn_q_norm", "self_attn.q_norm")
        yield weight(i, "k_norm", (config.head_dim,), "attn_k_norm", "self_attn.k_norm")
    yield weight(i, "o_proj", (dim, config.q_dim), "attn_output", "self_attn.o_proj")
    yield bias(i, "o_proj", dim, "attn_output", "self_attn.o_proj", optional="o")


def weight(
    i: int, name: str, shape: tuple[int, ...], gguf: str, huggingface: str, *, rotated_heads: int = 0
) -> TensorSpec:
    """A weight of layer i, by the names that each format has for it within a layer."""
    return TensorSpec(
        f"layers.{i}.{name}",
        shape,
        f"blk.{i}.{gguf}.weight",
        f"model.layers.{i}.{huggingface}.weight",
        rotated_heads=rotated_heads,
    )


def bias(
    i: int, name: str, rows: int, gguf: str, huggingface: str, *, optional: str = "", rotated_heads: int = 0
) -> TensorSpec:
    """The bias of the projection `name` of layer i."""
    return TensorSpec(
        f"layers.{i}.{name}.bias",
        (rows,),
        f"blk.{i}.{gguf}.bias",
        f"model.layers.{i}.{huggingface}.bias",
        optional=optional,
        rotated_heads=rotated_heads,
    )


def window(keys: Keys, key: str, fields: Mapping[str, Any]) -> dict[str, int]:
    """The field sliding_window; one as long as the context is none."""
    if not keys.has(key):
        return {}
    length = keys.integer(key)
    if length < 0:
        raise keys.error(key, f"is {length}, expected 0 or more")
    return {"sliding_window": length} if length < fields["max_seq_len"] else {}


def window_layers(keys: Keys, fields: Mapping[str, Any]) -> tuple[bool, ...]:
    """Which layers config.json's `layer_types` gives a window; empty where it says nothing."""
    if not keys.has("layer_types"):
        return ()
    kinds = {"sliding_attention": True, "full_attention": False}
    found = keys.items("layer_types")
    if len(found) != fields["n_layers"]:
        raise keys.error("layer_types", f"has {len(found)} entries for {fields['n_layers']} layers")
    for kind in found:
        if kind not in kinds:
            raise keys.error("layer_types", f"has {str(kind)[:80]!a}; {' and '.join(kinds)} would work")
    return tuple(kinds[kind] for kind in found)
