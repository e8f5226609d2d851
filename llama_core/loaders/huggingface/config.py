"""A Hugging Face `config.json` to a `ModelConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_core.config import ModelConfig, RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.json_files import Fields
from llama_core.loaders.rope_scaling import check_kind, checked_scaling

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
SILU = ("silu", "swish")


def read_config(path: Path, values: dict[str, Any], *, attention_bias: bool) -> ModelConfig:
    """The config of a model folder.

    path: of config.json, for messages. attention_bias: whether the weights hold biases of q, k and v.
    Raises ModelFormatError for missing or impossible numbers, UnsupportedModelError for other models.
    """
    fields = Fields(path, values)
    architecture = fields.text("model_type")
    _refuse_other_models(fields, architecture)
    dim, n_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", dim // max(n_heads, 1))
    max_seq_len = fields.integer("max_position_embeddings", 2048)
    # Newer files gather all about RoPE in one table; what that does not say may stand where it used to.
    rope = fields.table("rope_parameters") or Fields(path, {})
    rotated = head_dim * rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    scaling = rope if rope.has("rope_type") or rope.has("type") else fields.table("rope_scaling")
    try:
        return ModelConfig(
            dim=dim,
            hidden_dim=fields.integer("intermediate_size"),
            n_layers=fields.integer("num_hidden_layers"),
            n_heads=n_heads,
            n_kv_heads=fields.integer("num_key_value_heads", n_heads),
            head_dim=head_dim,
            vocab_size=fields.integer("vocab_size"),
            max_seq_len=max_seq_len,
            norm_eps=fields.number("rms_norm_eps", 1e-6),
            rope_theta=rope.number("rope_theta", fields.number("rope_theta", 10000.0)),
            rope_dim=0 if rotated == head_dim else int(rotated),
            rope_scaling=_rope_scaling(path, scaling, fields, max_seq_len),
            tie_embeddings=fields.boolean("tie_word_embeddings", False),
            attention_bias=attention_bias,
            qk_norm=architecture == "qwen3",
            sliding_window=_sliding_window(fields, architecture, max_seq_len),
            architecture=architecture,
            name=path.parent.name,
        )
    except ValueError as error:
        raise ModelFormatError(path, "config", str(error)) from error


def _refuse_other_models(fields: Fields, architecture: str) -> None:
    def unsupported(key: str, problem: str) -> UnsupportedModelError:
        return UnsupportedModelError(fields.path, f"field {key}", problem)

    if architecture not in ARCHITECTURES:
        raise unsupported(
            "model_type", f"is {architecture[:80]!a}; {', '.join(ARCHITECTURES)} models would work"
        )
    if fields.has("quantization_config"):
        raise unsupported(
            "quantization_config", "is not supported; the unquantised model or a GGUF file would work"
        )
    if fields.text("hidden_act", "silu") not in SILU:
        raise unsupported("hidden_act", f"is {fields.text('hidden_act')[:80]!a}; silu would work")


def _sliding_window(fields: Fields, architecture: str, max_seq_len: int) -> int:
    """Tokens that attention looks back, 0 for all. Llama has no such thing, whatever its config says."""
    if architecture == "llama" or not fields.has("sliding_window"):
        return 0
    if architecture.startswith("qwen"):
        if not fields.boolean("use_sliding_window", False):
            return 0
        n_full = fields.integer("max_window_layers", 0)
        if n_full >= fields.integer("num_hidden_layers"):
            return 0
        if n_full > 0:
            raise UnsupportedModelError(
                fields.path,
                "field max_window_layers",
                "some layers with and some without a window; all alike would work",
            )
    window = fields.integer("sliding_window")
    if window <= 0:
        raise fields.error("sliding_window", f"is {window}, expected 1 or more")
    return window if window < max_seq_len else 0


def _rope_scaling(path: Path, scaling: Fields | None, fields: Fields, max_seq_len: int) -> RopeScaling | None:
    if scaling is None:
        return None
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind == "default":
        return None
    check_kind(path, f"field {scaling.where[:-1]}", kind)
    for key in ("mscale", "mscale_all_dim"):
        if scaling.has(key):
            raise UnsupportedModelError(
                path, f"field {scaling.where}{key}", "is not supported; plain YaRN would work"
            )
    return checked_scaling(
        path,
        f"field {scaling.where[:-1]}",
        kind,
        factor=scaling.number("factor"),
        original_max_seq_len=scaling.integer(
            "original_max_position_embeddings",
            fields.integer("original_max_position_embeddings", max_seq_len),
        ),
        low_freq_factor=scaling.number("low_freq_factor", 1.0),
        high_freq_factor=scaling.number("high_freq_factor", 4.0),
        beta_fast=scaling.number("beta_fast", 32.0),
        beta_slow=scaling.number("beta_slow", 1.0),
        attention_factor=scaling.number("attention_factor") if scaling.has("attention_factor") else None,
    )
