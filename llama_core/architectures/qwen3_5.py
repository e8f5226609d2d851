"""Qwen3.5 (arXiv:2412.06464, 2505.06708): three layers with the gated delta rule to one with gated attention.

Its RoPE counts positions of text, height and width apart for pictures; for text the three are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, HeadOrder, Key, Keys, Layer, TensorSpec
from llama_core.architectures.recurrent import DeltaNet
from llama_core.config import ModelConfig

PERIOD = 4  # each fourth layer has attention
ROTATED = 0.25  # of a head, where config.json does not say
MOST_MTP = 4
KINDS = (("linear_attention",), ("full_attention",))
INNER_KEY, PERIOD_KEY, MTP_KEY = "ssm.inner_size", "full_attention_interval", "nextn_predict_layers"


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        found = decoder.layer(config, i)
        if decoder.is_recurrent(config, i):
            return replace(found, mixer=DeltaNet.of(config))
        return replace(found, mixer=replace(found.attention, gated=True))

    return decoder.with_layers(config, layer)


def _attention(config: ModelConfig, i: int, names: decoder.Names) -> Iterator[TensorSpec]:
    """q_proj has the rows of each head's gate behind those of the head."""
    for spec in decoder.attention_tensors(config, i, names):
        gated = spec.name.endswith(("q_proj", "q_proj.bias"))
        yield replace(spec, shape=(2 * spec.shape[0], *spec.shape[1:])) if gated else spec


def _recurrent(config: ModelConfig, i: int) -> Iterator[TensorSpec]:
    """Hugging Face's files have the heads that share a key next to each other, GGUF's by turns."""
    spec, at = DeltaNet.of(config), "linear_attn"
    n_heads, head_dim = spec.n_heads, spec.head_dim

    def by_turns(found: TensorSpec, size: int, *, columns: bool = False) -> TensorSpec:
        same = spec.n_groups in (1, n_heads)
        return found if same else replace(found, heads=HeadOrder(n_heads, spec.n_groups, size, columns))

    for part, rows, gguf, size in (
        ("qkv", spec.conv_dim, "attn_qkv", head_dim),
        ("z", spec.out_dim, "attn_gate", head_dim),
        ("b", n_heads, "ssm_beta", 1),
        ("a", n_heads, "ssm_alpha", 1),
    ):
        name = f"in_proj_{part}"
        yield by_turns(decoder.weight(i, name, (rows, config.dim), gguf, f"{at}.{name}"), size)
    conv = decoder.weight(i, "conv", (spec.conv_dim, spec.kernel), "ssm_conv1d", f"{at}.conv1d")
    yield by_turns(replace(conv, exact=True), head_dim)
    yield by_turns(decoder.vector(i, "dt_bias", n_heads, "ssm_dt.bias", f"{at}.dt_bias"), 1)
    decay = decoder.vector(i, "decay", n_heads, "ssm_a", f"{at}.A_log")
    yield by_turns(replace(decay, stored="log_of_negative"), 1)
    yield decoder.weight(i, "state_norm", (head_dim,), "ssm_norm", f"{at}.norm")
    o_proj = decoder.weight(i, "o_proj", (config.dim, spec.out_dim), "ssm_out", f"{at}.out_proj")
    yield by_turns(o_proj, head_dim, columns=True)


_NAMES = decoder.Names(
    norms={
        "input_layernorm": ("attn_norm", "input_layernorm"),
        "post_attention_layernorm": ("post_attention_norm", "post_attention_layernorm"),
    },
    attention=_attention,
    recurrent=_recurrent,
)


def _tensors(config: ModelConfig) -> Iterator[TensorSpec]:
    """Hugging Face's norms are the weight less 1, but for that behind the memory."""
    for spec in decoder.tensors(config, _NAMES):
        less_one = "norm" in spec.name and not spec.name.endswith("state_norm")
        yield replace(spec, stored="less_one") if less_one else spec


def _passed_over(config: ModelConfig) -> tuple[str, ...]:
    """Layers that guess further tokens."""
    return ("mtp.", *(f"blk.{config.n_layers + k}." for k in range(MOST_MTP)))


def _every(n_layers: int, period: int) -> tuple[bool, ...]:
    return decoder.all_but_every(n_layers, max(1, period))


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The file may hold, behind its layers, those that guess further tokens, which are left out here."""
    n_layers = fields["n_layers"] - keys.integer(MTP_KEY, 0)
    return {
        "qk_norm": True,
        "n_layers": n_layers,
        "state_head_dim": keys.integer(INNER_KEY) // max(1, keys.integer("ssm.time_step_rank")),
        "recurrent_layers": decoder.layers_without_kv(keys, n_layers)
        or _every(n_layers, keys.integer(PERIOD_KEY, PERIOD)),
    }


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    n_layers = fields["n_layers"]
    period = keys.integer(PERIOD_KEY, PERIOD)
    if not keys.boolean("attn_output_gate", True):
        raise keys.error("attn_output_gate", "is false; attention with a gate would work")
    layers = decoder.layers_of_kinds(keys, n_layers, *KINDS) or _every(n_layers, period)
    turned = keys.has("partial_rotary_factor") or keys.has("rope_parameters.partial_rotary_factor")
    own = {} if turned else {"rope_dim": int(ROTATED * fields["head_dim"])}
    return {"qk_norm": True, "recurrent_layers": layers, **own}


def _to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    found: dict[str, Any] = {INNER_KEY: config.state_heads * config.state_head_dim}
    periods = [
        p for p in range(1, config.n_layers + 1) if _every(config.n_layers, p) == config.recurrent_layers
    ]
    return found | ({PERIOD_KEY: periods[0]} if periods else decoder.kv_heads_by_layer(config))


STATE_KEYS = tuple(
    Key(field, gguf, huggingface, whole=True)
    for field, gguf, huggingface in (
        ("conv_kernel", "ssm.conv_kernel", "linear_conv_kernel_dim"),
        ("state_heads", "ssm.time_step_rank", "linear_num_value_heads"),
        ("state_groups", "ssm.group_count", "linear_num_key_heads"),
        ("state_dim", "ssm.state_size", "linear_key_head_dim"),
        ("state_head_dim", "", "linear_value_head_dim"),
    )
)

QWEN3_5 = Architecture(
    name="qwen35",
    gguf=("qwen35",),
    huggingface=("qwen3_5_text",),
    describe=_describe,
    tensors=_tensors,
    keys=STATE_KEYS,
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=_to_gguf,
    passed_over=_passed_over,
    defaults={
        "head_dim": 256,
        "conv_kernel": 4,
        "state_heads": 32,
        "state_groups": 16,
        "state_dim": 128,
        "state_head_dim": 128,
    },
)
