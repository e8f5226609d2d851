"""GGUF metadata to a `ModelConfig`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.config import ModelConfig, RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.rope_scaling import check_kind, checked_scaling

# Architectures that run. The first two pair rows 2j and 2j + 1 in RoPE, the others row j and j + half.
INTERLEAVED = ("llama", "mistral")
ARCHITECTURES = (*INTERLEAVED, "qwen2", "qwen3")


class Metadata:
    """Typed look-ups in a file's metadata; each failure names the key."""

    def __init__(self, path: Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        self.values = values
        self.prefix = prefix

    def error(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(self.path, f"metadata key {quoted(self.prefix + key)}", problem)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "is no string")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"is {quoted(str(value))}, expected a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"is {quoted(str(value))}, expected a finite number")
        return float(value)

    def has(self, key: str) -> bool:
        return self.prefix + key in self.values

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(self.prefix + key, default)
        if value is None:
            raise self.error(key, "is missing")
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            # Some files give a number for each layer; one number for all is what this engine runs.
            return value[0].item()
        if isinstance(value, np.ndarray) and value.size:
            raise UnsupportedModelError(
                self.path,
                f"metadata key {quoted(self.prefix + key)}",
                "differs from layer to layer; models whose layers are alike would work",
            )
        return value


def architecture_of(path: Path, metadata: Mapping[str, Any]) -> str:
    """The architecture, refused with UnsupportedModelError unless this engine runs it."""
    found = Metadata(path, metadata).text("general.architecture")
    if found not in ARCHITECTURES:
        raise UnsupportedModelError(
            path,
            "metadata key general.architecture",
            f"is {quoted(found)}; {', '.join(ARCHITECTURES)} models would work",
        )
    return found


def read_config(
    path: Path, metadata: Mapping[str, Any], tensor_shapes: Mapping[str, tuple[int, ...]]
) -> ModelConfig:
    """The config of the model in a GGUF file.

    tensor_shapes: NumPy's order, by GGUF's names; they tell the vocabulary's size, the tied head and biases.
    Raises ModelFormatError for missing or impossible numbers, UnsupportedModelError for other models.
    """
    architecture = architecture_of(path, metadata)
    meta = Metadata(path, metadata, f"{architecture}.")
    if meta.has("expert_count") and meta.integer("expert_count") > 0:
        raise UnsupportedModelError(
            path,
            f"metadata key {architecture}.expert_count",
            "mixture of experts is not supported; dense models are",
        )
    dim, n_heads = meta.integer("embedding_length"), meta.integer("attention.head_count")
    head_dim = meta.integer("attention.key_length", dim // max(n_heads, 1))
    if meta.integer("attention.value_length", head_dim) != head_dim:
        raise UnsupportedModelError(
            path,
            f"metadata key {architecture}.attention.value_length",
            f"differs from the key length {head_dim}",
        )
    embedding = tensor_shapes.get("token_embd.weight")
    if embedding is None:
        raise ModelFormatError(path, "tensor token_embd.weight", "is missing")
    rope_dim = meta.integer("rope.dimension_count", head_dim)
    max_seq_len = meta.integer("context_length")
    try:
        return ModelConfig(
            dim=dim,
            hidden_dim=meta.integer("feed_forward_length"),
            n_layers=meta.integer("block_count"),
            n_heads=n_heads,
            n_kv_heads=meta.integer("attention.head_count_kv", n_heads),
            head_dim=head_dim,
            vocab_size=embedding[0],
            max_seq_len=max_seq_len,
            norm_eps=meta.number("attention.layer_norm_rms_epsilon", 1e-5),
            rope_theta=meta.number("rope.freq_base", 10000.0),
            rope_dim=0 if rope_dim == head_dim else rope_dim,
            rope_scaling=_rope_scaling(path, meta, max_seq_len),
            tie_embeddings="output.weight" not in tensor_shapes,
            attention_bias="blk.0.attn_q.bias" in tensor_shapes,
            qk_norm=architecture == "qwen3",
            sliding_window=_sliding_window(meta, max_seq_len),
            architecture=architecture,
            name=Metadata(path, metadata).text("general.name", ""),
        )
    except ValueError as error:
        raise ModelFormatError(path, "metadata", str(error)) from error


def _sliding_window(meta: Metadata, max_seq_len: int) -> int:
    window = meta.integer("attention.sliding_window", 0)
    if window < 0:
        raise meta.error("attention.sliding_window", f"is {window}, expected 0 or more")
    return window if window < max_seq_len else 0


def _rope_scaling(path: Path, meta: Metadata, max_seq_len: int) -> RopeScaling | None:
    kind = meta.text("rope.scaling.type", "linear")
    if kind == "none":
        return None
    where = f"metadata key {quoted(meta.prefix + 'rope.scaling')}"
    check_kind(path, where, kind)
    # Old files say rope.scale_linear; 0 and 1 both mean "not scaled".
    factor = meta.number("rope.scaling.factor", meta.number("rope.scale_linear", 0.0))
    if factor in (0.0, 1.0):
        return None
    attention_factor = None
    if kind == "yarn" and meta.has("rope.scaling.attn_factor"):
        # In GGUF this multiplies YaRN's own temperature instead of replacing it.
        attention_factor = meta.number("rope.scaling.attn_factor") * (0.1 * math.log(max(factor, 1.0)) + 1.0)
    return checked_scaling(
        path,
        where,
        kind,
        factor=factor,
        original_max_seq_len=meta.integer("rope.scaling.original_context_length", max_seq_len),
        beta_fast=meta.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=meta.number("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=attention_factor,
    )
