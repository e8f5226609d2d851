"""A Hugging Face `config.json` to a `ModelConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_core.architectures import ALL, find, known
from llama_core.architectures.base import Architecture, Key
from llama_core.config import MAX_LAYERS, ModelConfig, RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.json_files import Fields
from llama_core.loaders.rope_scaling import (
    check_kind,
    checked_scaling,
    longrope_temperature,
    yarn_temperature,
)
from llama_core.loaders.unread import tell

# Keys that change no logit: about training, other programs, tokens, and what the weights tell by themselves.
# A window stands here too: the families that have one ask for it, in the others it says nothing.
# fmt: off
WITHOUT_EFFECT = frozenset((
    "_attn_implementation", "_name_or_path", "architectures", "attention_bias", "attention_dropout",
    "attn_implementation", "attn_pdrop", "auto_map", "block_dim", "block_mlp_init_scale", "block_norm_eps",
    "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init", "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward", "cls_token_id", "conv_bias", "conv_dim", "conv_dim_out",
    "conv_use_xavier_init", "dtype", "embd_pdrop", "eod_token_id", "eos_token_id",
    "head_dim", "hidden_dropout_prob", "id2label", "init_method", "initializer_range", "is_llama_config",
    "label2id", "layer_types", "mamba_chunk_size", "mamba_conv_bias", "mamba_d_head", "mamba_proj_bias",
    "mamba_ssm_dtype", "max_window_layers", "mlp_bias", "model_type", "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings", "name", "num_heads",
    "original_max_position_embeddings", "output_attentions", "output_hidden_states",
    "output_router_logits", "pad_token_id", "pretraining_tp", "problem_type", "resid_pdrop",
    "return_dict", "rope_interleaved", "router_aux_loss_coef", "router_jitter_noise", "sep_token_id",
    "sliding_window", "sliding_window_pattern", "task", "time_step_floor", "time_step_max", "time_step_min",
    "tokenizer_class", "torch_dtype", "transformers_version", "unk_token_id", "unsloth_fixed",
    "unsloth_version", "use_cache", "use_flash_attn", "use_pos_enc", "use_sliding_window",
))
# fmt: on
# A key that no reader asked for says nothing either when it has one of these values.
OFF: tuple[Any, ...] = (None, False, 0, "", [], {})


def read_config(path: Path, values: dict[str, Any], *, attention_bias: bool, where: str = "") -> ModelConfig:
    """The config of a model folder.

    path: of config.json, for messages; where: what its keys stand under there, "text_config.".
    attention_bias: whether the weights hold biases of q, k and v.
    Raises ModelFormatError for missing or impossible numbers, UnsupportedModelError for other models.
    """
    fields = Fields(path, values, where)
    architecture = _architecture(fields)
    own = architecture.defaults
    dim = fields.integer("hidden_size", own.get("dim"))
    n_heads = fields.integer("num_attention_heads", own.get("n_heads"))
    usual: dict[str, Any] = {
        "head_dim": dim // max(n_heads, 1),
        "n_kv_heads": n_heads,
        "max_seq_len": 2048,
        "norm_eps": 1e-6,
        "tie_embeddings": False,
        **own,
    }
    head_dim = fields.integer("head_dim", usual["head_dim"])
    n_layers = fields.integer("num_hidden_layers", usual.get("n_layers"))
    if n_layers > MAX_LAYERS:  # before a family makes lists of so many
        raise fields.error("num_hidden_layers", f"is {n_layers:,}, expected 1 to {MAX_LAYERS:,}")
    max_seq_len = fields.integer("max_position_embeddings", usual["max_seq_len"])
    found: dict[str, Any] = {
        **usual,
        "dim": dim,
        "hidden_dim": fields.integer("intermediate_size", usual.get("hidden_dim")),
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": fields.integer("num_key_value_heads", usual["n_kv_heads"]),
        "head_dim": head_dim,
        "vocab_size": fields.integer("vocab_size", usual.get("vocab_size")),
        "max_seq_len": max_seq_len,
        "norm_eps": fields.number("rms_norm_eps", usual["norm_eps"]),
        "tie_embeddings": fields.boolean("tie_word_embeddings", usual["tie_embeddings"]),
        "attention_bias": attention_bias,
        "architecture": architecture.name,
        "name": path.parent.name,
    }
    found |= _rope(path, fields, head_dim, max_seq_len, usual.get("rope_theta", 10000.0))
    for key in architecture.keys:
        if key.huggingface and fields.has(key.huggingface):
            found[key.field] = key.read(fields, key.huggingface)
        elif key.huggingface and fields.states(key.huggingface):  # null: none of it
            found.pop(key.field, None)
    found |= architecture.from_huggingface(fields, found)
    _tell_of_the_rest(fields)
    try:
        return ModelConfig(**found)
    except ValueError as error:
        raise ModelFormatError(path, "config", str(error)) from error


def _architecture(fields: Fields) -> Architecture:
    def unsupported(key: str, problem: str) -> UnsupportedModelError:
        return UnsupportedModelError(fields.path, f"field {fields.where}{key}", problem)

    name = fields.text("model_type")
    found = find("huggingface", name)
    if found is None:
        raise unsupported("model_type", f"is {name[:80]!a}; {known('huggingface')} models would work")
    if fields.has("quantization_config"):
        raise unsupported(
            "quantization_config", "is not supported; the unquantised model or a GGUF file would work"
        )
    usual = found.activations[0]
    for key in ("hidden_act", "hidden_activation"):
        if fields.text(key, usual) not in found.activations:
            raise unsupported(key, f"is {fields.text(key)[:80]!a}; {usual} would work")
    return found


def _tell_of_the_rest(fields: Fields) -> None:
    """Refuse what another family computes by and this one does not; warn of other keys that were not read."""
    elsewhere: dict[str, Key] = {key.huggingface: key for found in ALL for key in found.keys}
    for name, value in fields.values.items():
        if name in fields.asked or name in WITHOUT_EFFECT or value in OFF:
            continue
        key = elsewhere.get(name)
        if key is None:
            tell(fields.path, "field", fields.where + name)
        elif value != ModelConfig.__dataclass_fields__[key.field].default:
            raise UnsupportedModelError(
                fields.path,
                f"field {fields.where}{name}",
                f"is {quoted(str(value))}, which this family is not run with here",
            )


def _rope(path: Path, fields: Fields, head_dim: int, max_seq_len: int, usual_theta: float) -> dict[str, Any]:
    """What config.json says of RoPE. Newer files gather it in one table, or in one table a kind of layer;
    what that does not say may stand where it used to."""
    rope = fields.table("rope_parameters") or Fields(path, {})
    windowed = rope.table("sliding_attention")
    rope = rope.table("full_attention") or rope
    rotated = head_dim * rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    scaling = rope if rope.has("rope_type") or rope.has("type") else fields.table("rope_scaling")
    found: dict[str, Any] = {
        "rope_theta": rope.number("rope_theta", fields.number("rope_theta", usual_theta)),
        "rope_dim": 0 if rotated == head_dim else int(rotated),
        "rope_scaling": _rope_scaling(path, scaling, fields, max_seq_len),
    }
    if windowed is not None:
        if _rope_scaling(path, windowed, fields, max_seq_len) is not None:
            raise windowed.error("rope_type", "scales layers with a window; unscaled ones would work")
        theta = windowed.number("rope_theta", found["rope_theta"])
        if theta != found["rope_theta"] or found["rope_scaling"] is not None:
            found["window_rope_theta"] = theta
    return found


def _rope_scaling(path: Path, scaling: Fields | None, fields: Fields, max_seq_len: int) -> RopeScaling | None:
    if scaling is None:
        return None
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind in ("default", "mrope"):  # the latter counts positions of pictures in three ways, of text in one
        return None
    where = f"field {scaling.where[:-1]}"
    check_kind(path, where, kind)
    own = scaling.integer("original_max_position_embeddings", 0)
    trained = own or fields.integer("original_max_position_embeddings", max_seq_len)
    if kind == "longrope":
        factors = {
            key: tuple(float(one) for one in scaling.items(key)) for key in ("short_factor", "long_factor")
        }
        usual = longrope_temperature(max_seq_len / max(trained, 1), trained)
        return checked_scaling(
            path, where, kind, factor=max_seq_len / max(trained, 1), original_max_seq_len=trained,
            short_factors=factors["short_factor"], long_factors=factors["long_factor"],
            attention_factor=scaling.number("attention_factor", usual),
        )  # fmt: skip
    factor = scaling.number("factor")
    return checked_scaling(
        path,
        where,
        kind,
        factor=factor,
        original_max_seq_len=trained,
        low_freq_factor=scaling.number("low_freq_factor", 1.0),
        high_freq_factor=scaling.number("high_freq_factor", 4.0),
        beta_fast=scaling.number("beta_fast", 32.0),
        beta_slow=scaling.number("beta_slow", 1.0),
        attention_factor=_attention_factor(scaling, factor),
        truncate=scaling.boolean("truncate", True),
    )


def _attention_factor(scaling: Fields, factor: float) -> float | None:
    """YaRN's factor on cos and sin where it is not the usual one: as it stands, or as DeepSeek's two
    scales."""
    if scaling.has("attention_factor"):
        return scaling.number("attention_factor")
    if scaling.has("mscale") and scaling.has("mscale_all_dim"):
        own, over = scaling.number("mscale"), scaling.number("mscale_all_dim")
        if own and over:
            return yarn_temperature(factor, own) / yarn_temperature(factor, over)
    return None
