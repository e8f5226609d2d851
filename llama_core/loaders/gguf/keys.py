"""The numbers of a `ModelConfig` under GGUF's keys: the table that the reader and the writer share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import architecture_of, describe
from llama_core.architectures.rope import rope_frequencies
from llama_core.config import ModelConfig, RopeScaling
from llama_core.loaders.rope_scaling import yarn_temperature

# Field -> key below the architecture's prefix; the families' own are in their files.
KEYS = {
    "dim": "embedding_length",
    "hidden_dim": "feed_forward_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_seq_len": "context_length",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}


def gguf_architecture(config: ModelConfig) -> str:
    """The name under which a GGUF file of this config goes."""
    architecture = architecture_of(config)
    return architecture.gguf_name(config) if architecture.gguf_name else architecture.gguf[0]


def config_keys(config: ModelConfig) -> dict[str, Any]:
    """Everything in the config that GGUF has a key for."""
    name, architecture = gguf_architecture(config), architecture_of(config)
    own = {field: getattr(config, field) for field in KEYS}
    found = {KEYS[field]: float(value) if isinstance(value, float) else value for field, value in own.items()}
    found |= {
        "vocab_size": config.vocab_size,
        "rope.dimension_count": config.n_rotated,
        "attention.value_length": config.head_dim,
    }
    numbers = {key.gguf: getattr(config, key.field) for key in architecture.keys if key.gguf}
    found |= {key: value for key, value in numbers.items() if value}
    found |= architecture.to_gguf(config)
    if config.rope_scaling is not None and config.rope_scaling.kind != "llama3":
        found |= _scaling_keys(config.rope_scaling)
    general = {"general.architecture": name, "general.name": config.name or "model"}
    return general | {f"{name}.{key}": value for key, value in found.items()}


def _scaling_keys(scaling: RopeScaling) -> dict[str, Any]:
    factor = 1.0 if scaling.attention_factor is None else scaling.attention_factor
    found: dict[str, Any] = {"original_context_length": scaling.original_max_seq_len}
    if scaling.kind == "longrope":  # which its tensors tell
        found |= {"attn_factor": float(factor)}
    else:
        found |= {"type": scaling.kind, "factor": float(scaling.factor)}
    if scaling.kind == "yarn":
        found |= {"yarn_beta_fast": float(scaling.beta_fast), "yarn_beta_slow": float(scaling.beta_slow)}
        if scaling.attention_factor is not None:  # the key multiplies the usual one
            found |= {"attn_factor": float(factor) / yarn_temperature(scaling.factor)}
    return {f"rope.scaling.{key}": value for key, value in found.items() if value}


def rope_vectors(config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Scaling that a GGUF file keeps in tensors, by our names: (n_rotated / 2,) divisors each.

    llama3's are worked into rope_freqs; LongRoPE's stand as they are.
    """
    scaling = config.rope_scaling
    if scaling is None or scaling.kind not in ("llama3", "longrope"):
        return {}
    if scaling.kind == "longrope":
        short, long = (np.array(f, dtype=np.float32) for f in (scaling.short_factors, scaling.long_factors))
        return {"rope_factors_short": short, "rope_factors_long": long}
    rope = next(attention.rope for attention in describe(config).attentions() if attention.rope)
    scaled, _ = rope_frequencies(rope)
    plain, _ = rope_frequencies(replace(rope, scaling=None))
    return {"rope_freqs": (plain / scaled).astype(np.float32)}
