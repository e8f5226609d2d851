"""A `ModelConfig` as GGUF metadata: the reverse of `gguf_config.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.rope import rope_frequencies
from llama_core.config import ModelConfig, RopeScaling
from llama_core.loaders.gguf.config import INTERLEAVED


def gguf_architecture(config: ModelConfig) -> str:
    """The name under which GGUF files of this architecture go; ggml runs mistral as llama."""
    return "llama" if config.architecture in INTERLEAVED else config.architecture


def config_keys(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    """Key and value of everything in the config that GGUF has a key for."""
    arch = gguf_architecture(config)
    yield "general.architecture", arch
    yield "general.name", config.name or "model"
    yield f"{arch}.vocab_size", config.vocab_size
    yield f"{arch}.context_length", config.max_seq_len
    yield f"{arch}.embedding_length", config.dim
    yield f"{arch}.block_count", config.n_layers
    yield f"{arch}.feed_forward_length", config.hidden_dim
    yield f"{arch}.rope.dimension_count", config.n_rotated
    yield f"{arch}.rope.freq_base", float(config.rope_theta)
    yield f"{arch}.attention.head_count", config.n_heads
    yield f"{arch}.attention.head_count_kv", config.n_kv_heads
    yield f"{arch}.attention.key_length", config.head_dim
    yield f"{arch}.attention.value_length", config.head_dim
    yield f"{arch}.attention.layer_norm_rms_epsilon", float(config.norm_eps)
    if config.sliding_window:
        yield f"{arch}.attention.sliding_window", config.sliding_window
    if config.rope_scaling is not None and config.rope_scaling.kind != "llama3":
        yield from _scaling_keys(f"{arch}.rope.scaling.", config.rope_scaling)


def _scaling_keys(prefix: str, scaling: RopeScaling) -> Iterator[tuple[str, Any]]:
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
    scaled, _ = rope_frequencies(config)
    plain, _ = rope_frequencies(replace(config, rope_scaling=None))
    return (plain / scaled).astype(np.float32)
