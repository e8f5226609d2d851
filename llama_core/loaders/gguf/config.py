"""GGUF metadata to a `ModelConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.architectures import find, known
from llama_core.architectures.base import Architecture
from llama_core.config import MAX_LAYERS, ModelConfig, RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.gguf.keys import KEYS
from llama_core.loaders.gguf.metadata import Metadata
from llama_core.loaders.rope_scaling import check_kind, checked_scaling, yarn_temperature
from llama_core.loaders.unread import tell

# What encoders of pictures and sound go by.
PROJECTOR = "clip"
# Tensors with LongRoPE's divisors.
SHORT_FACTORS, LONG_FACTORS = "rope_factors_short.weight", "rope_factors_long.weight"
# Keys that change no number here: sizes that tensors tell, and what readers of this format leave out too.
WITHOUT_EFFECT = {
    "n_deepstack_layers",
    "vocab_size",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scale_linear",
    "attention.sliding_window",
    "tensor_data_layout",
}


def architecture_of(path: Path, metadata: Mapping[str, Any]) -> Architecture:
    """The architecture, refused with UnsupportedModelError unless this engine runs it."""
    name = Metadata(path, metadata).text("general.architecture")
    found = find("gguf", name)
    if name == PROJECTOR or metadata.get("general.type") == "mmproj":
        problem = "says that this is the part of a model that sees or hears (mmproj), which is not read; the "
        raise UnsupportedModelError(
            path, "metadata key general.architecture", problem + "file of the model beside it would work"
        )
    if found is None:
        raise UnsupportedModelError(
            path, "metadata key general.architecture", f"is {quoted(name)}; {known('gguf')} models would work"
        )
    return found


def read_config(
    path: Path,
    metadata: Mapping[str, Any],
    tensor_shapes: Mapping[str, tuple[int, ...]],
    vectors: Mapping[str, tuple[float, ...]] | None = None,
) -> ModelConfig:
    """The config of the model in a GGUF file.

    tensor_shapes: NumPy's order, by GGUF's names; they tell the vocabulary's size, the tied head and biases.
    vectors: LongRoPE's factors, by GGUF's names, where the file has them.
    Raises ModelFormatError for missing or impossible numbers, UnsupportedModelError for other models.
    """
    architecture = architecture_of(path, metadata)
    meta = Metadata(path, metadata, f"{metadata['general.architecture']}.")
    dim, n_heads = meta.integer(KEYS["dim"]), meta.integer(KEYS["n_heads"])
    head_dim = meta.integer(KEYS["head_dim"], dim // max(n_heads, 1))
    if meta.integer("attention.value_length", head_dim) != head_dim:
        raise meta.unsupported("attention.value_length", f"differs from the key length {head_dim}")
    embedding = tensor_shapes.get("token_embd.weight")
    if embedding is None:
        raise ModelFormatError(path, "tensor token_embd.weight", "is missing")
    n_layers = meta.integer(KEYS["n_layers"])
    if n_layers > MAX_LAYERS:  # before a family makes lists of so many
        raise meta.error(KEYS["n_layers"], f"is {n_layers:,}, expected 1 to {MAX_LAYERS:,}")
    rope_dim = meta.integer("rope.dimension_count", head_dim)
    max_seq_len = meta.integer(KEYS["max_seq_len"])
    fields: dict[str, Any] = {
        "dim": dim,
        "hidden_dim": meta.integer(KEYS["hidden_dim"]),
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": meta.integer_of_some(KEYS["n_kv_heads"], n_heads),
        "head_dim": head_dim,
        "vocab_size": embedding[0],
        "max_seq_len": max_seq_len,
        "norm_eps": meta.number(KEYS["norm_eps"], 1e-5),
        "rope_theta": meta.number(KEYS["rope_theta"], 10000.0),
        "rope_dim": 0 if rope_dim == head_dim else rope_dim,
        "rope_scaling": _rope_scaling(path, meta, max_seq_len, vectors or {}),
        "tie_embeddings": "output.weight" not in tensor_shapes,
        "attention_bias": "blk.0.attn_q.bias" in tensor_shapes,
        "architecture": architecture.name,
        "name": Metadata(path, metadata).text("general.name", ""),
    }
    for key in architecture.keys:
        if key.gguf and meta.has(key.gguf):
            fields[key.field] = key.read(meta, key.gguf)
    fields |= architecture.from_gguf(meta, fields)
    _tell_of_the_rest(meta)
    try:
        return ModelConfig(**fields)
    except ValueError as error:
        raise ModelFormatError(path, "metadata", str(error)) from error


def _tell_of_the_rest(meta: Metadata) -> None:
    """Refuse experts that the family does not have; warn of other keys that were not read and say
    something."""
    for name, value in meta.values.items():
        key = name.removeprefix(meta.prefix)
        if not name.startswith(meta.prefix) or name in meta.asked or key in WITHOUT_EFFECT:
            continue
        if key == "expert_count" and value:
            raise meta.unsupported(key, "mixture of experts is not supported; dense models are")
        if isinstance(value, str | int | float) and value:
            tell(meta.path, "metadata key", name)


def _rope_scaling(
    path: Path, meta: Metadata, max_seq_len: int, vectors: Mapping[str, tuple[float, ...]]
) -> RopeScaling | None:
    where = f"metadata key {quoted(meta.prefix + 'rope.scaling')}"
    trained = meta.integer("rope.scaling.original_context_length", max_seq_len)
    if vectors:
        return checked_scaling(
            path,
            where,
            "longrope",
            factor=max_seq_len / max(trained, 1),
            original_max_seq_len=trained,
            short_factors=vectors.get(SHORT_FACTORS, ()),
            long_factors=vectors.get(LONG_FACTORS, ()),
            attention_factor=meta.number("rope.scaling.attn_factor", 1.0),
        )
    kind = meta.text("rope.scaling.type", "linear")
    if kind == "none":
        return None
    check_kind(path, where, kind)
    # Old files say rope.scale_linear; 0 and 1 both mean "not scaled".
    factor = meta.number("rope.scaling.factor", meta.number("rope.scale_linear", 0.0))
    if factor in (0.0, 1.0):
        return None
    return checked_scaling(
        path,
        where,
        kind,
        factor=factor,
        original_max_seq_len=trained,
        beta_fast=meta.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=meta.number("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=_attention_factor(meta, factor) if kind == "yarn" else None,
    )


def _attention_factor(meta: Metadata, factor: float) -> float | None:
    """YaRN's factor on cos and sin where it is not the usual one. In GGUF a key multiplies the usual one
    instead of replacing it, and another divides by that of another scale (DeepSeek's `mscale_all_dim`)."""
    usual, found = yarn_temperature(factor), 1.0
    scale = meta.number("rope.scaling.yarn_log_multiplier", 0.0)
    if scale:
        found /= yarn_temperature(factor, scale)
    found *= meta.number("rope.scaling.attn_factor", 1.0)
    return None if found == 1.0 else found * usual
