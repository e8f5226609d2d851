"""The decoder that all families share, from the numbers of a config: what a family changes, its file says.

Names of tensors (shapes are NumPy's, rows first; `i` is the layer, `e` an expert):

    embed_tokens                        (vocab_size, dim)
    layers.{i}.input_layernorm          (dim,)                      before attention
    layers.{i}.q_proj                   (n_heads * head_dim, dim)
    layers.{i}.k_proj, v_proj           (n_kv_heads * head_dim, dim)
    layers.{i}.q_norm, k_norm           (head_dim,), or the rows of q_proj and k_proj
    layers.{i}.sinks                    (n_heads,)
    layers.{i}.o_proj                   (dim, n_heads * head_dim)
    layers.{i}.attention_out_norm       (dim,)                      behind o_proj
    layers.{i}.post_attention_layernorm (dim,)                      before the feed-forward
    layers.{i}.router                   (n_experts, dim)
    layers.{i}.gate_proj, up_proj       (hidden_dim, dim)
    layers.{i}.down_proj                (dim, hidden_dim)           or layers.{i}.experts.{e}.gate_proj, ...
    layers.{i}.feed_forward_out_norm    (dim,)                      behind down_proj
    norm                                (dim,)                      before the head
    lm_head                             (vocab_size, dim)           absent where the embedding serves
    rope_freqs                          (n_rotated / 2,)            optional divisors of RoPE's frequencies

A layer with a state instead of attention (see `recurrent`, which says what of these it has):

    layers.{i}.in_proj                  (in_dim, dim)               or in_proj_qkv, in_proj_z, in_proj_b,
                                                                    in_proj_a, whose rows make it up
    layers.{i}.conv                     (conv_dim, kernel)          the last column meets the newest position
    layers.{i}.dt_bias, decay, skip     (n_heads,)                  decay is negative
    layers.{i}.state_norm               (head_dim,) or (out_dim,)   behind the memory
    layers.{i}.o_proj                   (dim, out_dim)

Each projection may have a bias, such as layers.{i}.q_proj.bias, (rows,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from llama_core.architectures.base import (
    Attention,
    Description,
    Experts,
    FeedForward,
    Key,
    Keys,
    Layer,
    QueryTemperature,
    Rope,
    TensorSpec,
)
from llama_core.config import ModelConfig

WINDOW_KEY, PATTERN_KEY = "attention.sliding_window", "attention.sliding_window_pattern"
KV_HEADS_KEY = "attention.head_count_kv"
NO_WINDOW: dict[str, Any] = {"sliding_window": 0}
EXPERT_KEYS = (
    Key("n_experts", "expert_count", "num_local_experts", whole=True),
    Key("n_experts_used", "expert_used_count", "num_experts_per_tok", whole=True),
)
# Norms of a layer by our names, with GGUF's and Hugging Face's: before the sub-layers, and after them.
BEFORE: Mapping[str, tuple[str, str]] = {
    "input_layernorm": ("attn_norm", "input_layernorm"),
    "post_attention_layernorm": ("ffn_norm", "post_attention_layernorm"),
}
AFTER: Mapping[str, tuple[str, str]] = {
    "attention_out_norm": ("post_attention_norm", "post_attention_layernorm"),
    "feed_forward_out_norm": ("post_ffw_norm", "post_feedforward_layernorm"),
}


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
    experts = None
    if config.n_experts:
        weights: Literal["normalised", "softmax"] = "normalised" if config.experts_normalised else "softmax"
        experts = Experts(config.n_experts, config.n_experts_used, weights)
    feed_forward = FeedForward(config.hidden_dim, experts=experts)
    return Layer(attention(config, i), feed_forward, residual_scale=config.residual_scale)


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


@dataclass(frozen=True, slots=True)
class Names:
    """What differs from family to family in a model's tensors. norm: the last one's names in GGUF and
    Hugging Face; norms: as BEFORE; qk_norm: over what q and k are normed; attention, recurrent, feed_forward,
    experts: what makes the tensors of each, recurrent those of a layer with a state instead of attention."""

    norm: tuple[str, str] = ("output_norm", "model.norm")

    norms: Mapping[str, tuple[str, str]] = field(default_factory=lambda: BEFORE)
    qk_norm: Literal["head", "width"] = "head"
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    o_proj: str = "self_attn.o_proj"
    attention: Callable[[ModelConfig, int, Names], Iterator[TensorSpec]] = lambda *of: attention_tensors(*of)
    recurrent: Callable[[ModelConfig, int], Iterator[TensorSpec]] = lambda *_: iter(())
    feed_forward: Callable[[ModelConfig, int], Iterator[TensorSpec]] = lambda *of: dense_tensors(*of)
    experts: Callable[[ModelConfig, int], Iterator[TensorSpec]] = lambda *of: expert_tensors(*of)


PLAIN = Names()


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """Hugging Face's names, within a layer, of the router and of expert {e}'s projections: Mixtral's."""

    router: str = "block_sparse_moe.gate"
    gate: str = "block_sparse_moe.experts.{e}.w1"
    up: str = "block_sparse_moe.experts.{e}.w3"
    down: str = "block_sparse_moe.experts.{e}.w2"


def tensors(config: ModelConfig, names: Names = PLAIN) -> Iterator[TensorSpec]:
    """Every tensor that a model of this config may have, in the order in which a token reads them."""
    vocabulary = (config.vocab_size, config.dim)
    yield TensorSpec("embed_tokens", vocabulary, "token_embd.weight", "model.embed_tokens.weight")
    for i in range(config.n_layers):
        yield from layer_tensors(config, i, names)
    gguf, huggingface = names.norm
    yield TensorSpec("norm", (config.dim,), f"{gguf}.weight", f"{huggingface}.weight")
    if not config.tie_embeddings:
        yield TensorSpec("lm_head", vocabulary, "output.weight", "lm_head.weight")
    for name, group in (("freqs", "freqs"), ("factors_long", "factors"), ("factors_short", "factors")):
        spec = TensorSpec(f"rope_{name}", (config.n_rotated // 2,), f"rope_{name}.weight", "")
        yield replace(spec, optional=f"rope_{group}")


def layer_tensors(config: ModelConfig, i: int, names: Names) -> Iterator[TensorSpec]:
    """Layer i's: attention (or what it has instead) and feed-forward, each between its norms."""

    def norm(name: str) -> Iterator[TensorSpec]:
        if name in names.norms:
            yield weight(i, name, (config.dim,), *names.norms[name])

    yield from norm("input_layernorm")
    yield from names.recurrent(config, i) if is_recurrent(config, i) else names.attention(config, i, names)
    yield from norm("attention_out_norm")
    yield from norm("post_attention_layernorm")
    yield from (names.experts if config.n_experts else names.feed_forward)(config, i)
    yield from norm("feed_forward_out_norm")


def attention_tensors(config: ModelConfig, i: int, names: Names) -> Iterator[TensorSpec]:
    """q, k and v with what belongs to them, and o."""
    dim, heads, kv_heads = config.dim, config.n_heads, config.n_kv_heads
    for part, n_heads, rotated in (("q", heads, heads), ("k", kv_heads, kv_heads), ("v", kv_heads, 0)):
        name, gguf, rows = f"{part}_proj", f"attn_{part}", n_heads * config.head_dim
        yield weight(i, name, (rows, dim), gguf, f"self_attn.{name}", rotated_heads=rotated)
        if config.attention_bias:
            yield bias(i, name, rows, gguf, f"self_attn.{name}", rotated_heads=rotated)
    if config.qk_norm:
        whole = names.qk_norm == "width"
        for name, gguf, foreign, rows in (
            ("q_norm", "attn_q_norm", names.q_norm, config.q_dim),
            ("k_norm", "attn_k_norm", names.k_norm, config.kv_dim),
        ):
            yield weight(i, name, (rows if whole else config.head_dim,), gguf, foreign)
    yield weight(i, "o_proj", (dim, config.q_dim), "attn_output", names.o_proj)
    yield bias(i, "o_proj", dim, "attn_output", names.o_proj, optional="o")


def is_recurrent(config: ModelConfig, i: int) -> bool:
    """Whether layer i has a state instead of attention."""
    return bool(config.recurrent_layers) and config.recurrent_layers[i]


MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def dense_tensors(config: ModelConfig, i: int, names: tuple[str, str, str] = MLP) -> Iterator[TensorSpec]:
    """gate, up and down, by Hugging Face's names, with the biases that some files have."""
    dim, hidden = config.dim, config.hidden_dim
    gate, up, down = names
    for name, gguf, shape, foreign, group in (
        ("gate_proj", "ffn_gate", (hidden, dim), gate, "gate_up"),
        ("up_proj", "ffn_up", (hidden, dim), up, "gate_up"),
        ("down_proj", "ffn_down", (dim, hidden), down, "down"),
    ):
        yield weight(i, name, shape, gguf, foreign)
        yield bias(i, name, shape[0], gguf, foreign, optional=group)


def expert_tensors(config: ModelConfig, i: int, names: ExpertNames | None = None) -> Iterator[TensorSpec]:
    """The router and each expert's gate, up and down: in GGUF all experts' in one tensor, in Hugging Face's
    files one by one or, where the names have no {e}, together too."""
    names = names or ExpertNames()
    dim, hidden = config.dim, config.hidden_dim
    yield replace(weight(i, "router", (config.n_experts, dim), "ffn_gate_inp", names.router), exact=True)
    for e in range(config.n_experts):
        for name, gguf, shape, foreign in (
            ("gate_proj", "ffn_gate_exps", (hidden, dim), names.gate),
            ("up_proj", "ffn_up_exps", (hidden, dim), names.up),
            ("down_proj", "ffn_down_exps", (dim, hidden), names.down),
        ):
            spec = weight(i, f"experts.{e}.{name}", shape, gguf, foreign.format(e=e))
            yield replace(spec, stacked=True)


def tensors_with_experts(names: ExpertNames) -> Callable[[ModelConfig], Iterator[TensorSpec]]:
    """`tensors` for a family whose experts go by these names in Hugging Face's files."""
    return partial(tensors, names=Names(experts=partial(expert_tensors, names=names)))


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


def vector(i: int, name: str, size: int, gguf: str, huggingface: str) -> TensorSpec:
    """Numbers of layer i that are no projection's: the names are whole, as they follow the layer's."""
    return TensorSpec(f"layers.{i}.{name}", (size,), f"blk.{i}.{gguf}", f"model.layers.{i}.{huggingface}")


def layers_of_kinds(
    keys: Keys, n_layers: int, kinds: tuple[str, ...], others: tuple[str, ...]
) -> tuple[bool, ...]:
    """Which layers config.json's `layer_types` counts among `kinds`; all must be one of these or of the
    others. Empty where it says nothing."""
    if not keys.has("layer_types"):
        return ()
    found = keys.items("layer_types")
    if len(found) != n_layers:
        raise keys.error("layer_types", f"has {len(found)} entries for {n_layers} layers")
    for kind in found:
        if kind not in (*kinds, *others):
            known = " and ".join((*kinds, *others))
            raise keys.error("layer_types", f"has {str(kind)[:80]!a}; {known} would work")
    return tuple(kind in kinds for kind in found)


def layers_without_kv(keys: Keys, n_layers: int) -> tuple[bool, ...]:
    """Which layers have a state, from GGUF's heads of keys by layer: those that have none."""
    if not keys.is_array(KV_HEADS_KEY):
        return ()
    heads = keys.items(KV_HEADS_KEY)
    if len(heads) != n_layers:
        raise keys.error(KV_HEADS_KEY, f"has {len(heads)} entries for {n_layers} layers")
    return tuple(n == 0 for n in heads)


def kv_heads_by_layer(config: ModelConfig) -> dict[str, Any]:
    """The reverse of `layers_without_kv`."""
    heads = [0 if is_recurrent(config, i) else config.n_kv_heads for i in range(config.n_layers)]
    return {KV_HEADS_KEY: np.array(heads, dtype=np.int32)} if any(config.recurrent_layers) else {}


def window(keys: Keys, key: str, fields: Mapping[str, Any]) -> dict[str, int]:
    """The field sliding_window; one as long as the context is none."""
    length = keys.integer(key, 0 if keys.states(key) else fields.get("sliding_window", 0))
    if length < 0:
        raise keys.error(key, f"is {length}, expected 0 or more")
    return {"sliding_window": length if length < fields["max_seq_len"] else 0}


def window_layers(keys: Keys, fields: Mapping[str, Any]) -> tuple[bool, ...]:
    """Which layers config.json's `layer_types` gives a window; empty where it says nothing."""
    return layers_of_kinds(keys, fields["n_layers"], ("sliding_attention",), ("full_attention",))


def all_but_every(n_layers: int, period: int) -> tuple[bool, ...]:
    """True for all layers but each `period`th."""
    return tuple((i + 1) % period != 0 for i in range(n_layers))


def windows(keys: Keys, fields: Mapping[str, Any], period: int) -> dict[str, Any]:
    """config.json's window and the layers that have it, by default all but each `period`th."""
    found: dict[str, Any] = window(keys, "sliding_window", fields)
    layers = window_layers(keys, fields) or all_but_every(fields["n_layers"], period)
    return found | {"window_layers": layers} if found["sliding_window"] and any(layers) else NO_WINDOW


def gguf_windows(keys: Keys, fields: Mapping[str, Any], period: int) -> dict[str, Any]:
    """GGUF's window and the layers that have it: an array of truths, a period, or by default each
    family's."""
    found: dict[str, Any] = window(keys, WINDOW_KEY, fields)
    n_layers = fields["n_layers"]
    if keys.has(PATTERN_KEY) and keys.is_array(PATTERN_KEY):
        layers = tuple(bool(one) for one in keys.items(PATTERN_KEY))
    else:
        layers = all_but_every(n_layers, max(1, keys.integer(PATTERN_KEY, period)))
    return found | {"window_layers": layers} if found["sliding_window"] else NO_WINDOW


def to_gguf_windows(config: ModelConfig) -> dict[str, Any]:
    """The reverse of `gguf_windows`."""
    if not config.sliding_window:
        return {}
    layers = config.window_layers or (True,) * config.n_layers
    return {WINDOW_KEY: config.sliding_window, PATTERN_KEY: np.array(layers, dtype=np.bool_)}
