"""The numbers of a `ModelConfig` under GGUF's keys: the table that the reader and the writer share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import architecture_of, describe
from llama_core.architectures.rope import rope_frequencies
from llama_core.config import ModelConfig, RopeScaling

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
    found |= {key.gguf: getattr(config, key.field) for key in architecture.keys if key.gguf}
    found |= architecture.to_gguf(config)
    if config.rope_scaling is not None and config.rope_scaling.kind != "llama3":
        found |= _scaling_keys(config.rope_scaling)
    general = {"general.architecture": name, "general.name": config.name or "model"}
    return general | {f"{name}.{key}": value for key, value in found.items()}


def _scaling_keys(scaling: RopeScaling) -> Iterator[tuple[str, Any]]:
    prefix = "rope.scaling."
    yield f"{prefix}type", scaling.kind
    yield f"{prefix}factor", float(scaling.factor)
    if scaling.original_max_seq_len:
        yield f"{prefix}original_context_length", scaling.original_max_seq_len
    if scaling.kind == "yarn":
        yield f"{prefix}yarn_beta_fast", float(scaling.beta_fast)
        yield f"{prefix}yarn_beta_slow", float(scaling.beta_slow)
        if scaling.attention_factor is not None:
            own = 0.1 * math.log(max(scaling.factor, 1.0)) + 1.0
            yield f"{prefix}attn_factor", float(scaling.attention_factor) / own


def frequency_divisors(config: ModelConfig) -> NDArray[np.float32] | None:
    """llama3 scaling as the tensor rope_freqs of a GGUF file: (n_rotated / 2,) divisors; else None."""
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return None
    rope = next(layer.attention.rope for layer in describe(config).layers if layer.attention.rope)
    scaled, _ = rope_frequencies(rope)
    plain, _ = rope_frequencies(replace(rope, scaling=None))
    return (plain / scaled).astype(np.float32)
