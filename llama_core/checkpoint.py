"""What a loader hands over: a config, lazily read tensors under one set of names, a tokenizer.

Names (shapes are NumPy's, rows first; `i` is the layer):

    embed_tokens                        (vocab_size, dim)
    layers.{i}.input_layernorm          (dim,)
    layers.{i}.q_proj                   (n_heads * head_dim, dim)
    layers.{i}.k_proj, v_proj           (n_kv_heads * head_dim, dim)
    layers.{i}.q_proj.bias, ...         (rows,)              q, k and v: where config.attention_bias
    layers.{i}.o_proj.bias, ...         (rows,)              o, gate and up, down: optional
    layers.{i}.q_norm, k_norm           (head_dim,)          where config.qk_norm
    layers.{i}.o_proj                   (dim, n_heads * head_dim)
    layers.{i}.post_attention_layernorm (dim,)
    layers.{i}.gate_proj, up_proj       (hidden_dim, dim)
    layers.{i}.down_proj                (dim, hidden_dim)
    norm                                (dim,)
    lm_head                             (vocab_size, dim)    absent where config.tie_embeddings
    rope_freqs                          (head_dim / 2,)      optional divisors of the RoPE frequencies

RoPE has one layout in the whole engine: dimension j of a head is paired with j + n_rotated / 2
("rotate half"). Files that pair 2j with 2j + 1 get a `row_order` on q_proj and k_proj (and on their
biases) that moves whole rows, which is possible without touching the blocks of a quantised row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.config import ModelConfig
from llama_core.quant.table import BlockFormat
from llama_core.tokenizers.base import Tokenizer

# Biases beside those of q, k and v. A group is there whole or not at all, and alike in every layer.
OPTIONAL_BIASES = (("o_proj.bias",), ("gate_proj.bias", "up_proj.bias"), ("down_proj.bias",))
# How many bytes of reordered rows are copied at a time before they are dequantised.
REORDERED_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor still in its file.

    raw: (n_rows, row_bytes) uint8, a read-only view of the mapped file; a vector has one row.
    row_order: (n_rows,) the file's row for each of our rows, or None where they agree (see the module).
    """

    name: str
    shape: tuple[int, ...]
    fmt: BlockFormat
    raw: NDArray[np.uint8]
    row_order: NDArray[np.intp] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return int(self.raw.size)

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Our rows start..stop as (n, row_bytes) uint8: a view, or a copy where rows are reordered."""
        if self.row_order is None:
            return self.raw[start:stop]
        return self.raw[self.row_order[start:stop]]

    def to_float32(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """All values as float32 of `shape`, written into `out` (same shape) where given.

        No temporary is larger than a few rows, so a part of a bigger buffer can be filled in place.
        """
        # Here, because `models inspect` does without: the block formats take longer to import than to list.
        from llama_core.quant.dequantize import dequantize

        if out is None:
            out = np.empty(self.shape, dtype=np.float32)
        if len(self.shape) == 1:
            if self.row_order is not None:  # a bias: its values are the rows
                out[:] = dequantize(self.raw, self.fmt).reshape(-1)[self.row_order]
            else:
                dequantize(self.raw, self.fmt, out=out[None, :])
            return out
        n_rows = self.shape[0]
        step = n_rows if self.row_order is None else max(1, REORDERED_BYTES // self.raw.shape[1])
        for start in range(0, n_rows, step):
            dequantize(self.rows(start, start + step), self.fmt, out=out[start : start + step])
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An opened model file: nothing but its header has been read.

    file_format: "gguf", "safetensors", "llama2c" or "npz". metadata: the header's own key-value pairs, for
    `models inspect`. chat_template: Jinja source, or None for a base model (plain completion).
    """

    path: Path
    file_format: str
    file_bytes: int
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer
    chat_template: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def tensor_shapes(config: ModelConfig, present: Collection[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of a model, in the order of its layers.

    present: the names of the tensors at hand, which tell the optional ones that belong to the model: the
    divisors of the frequencies, and a bias that stands in any layer.
    """
    dim, hidden, head_dim = config.dim, config.hidden_dim, config.head_dim
    q_dim, kv_dim = config.q_dim, config.kv_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (dim,),
        "q_proj": (q_dim, dim),
        "k_proj": (kv_dim, dim),
        "v_proj": (kv_dim, dim),
        "o_proj": (dim, q_dim),
        "post_attention_layernorm": (dim,),
        "gate_proj": (hidden, dim),
        "up_proj": (hidden, dim),
        "down_proj": (dim, hidden),
    }
    biases = optional_biases(present)
    if config.attention_bias:
        biases |= {"q_proj.bias", "k_proj.bias", "v_proj.bias"}
    layer |= {name: layer[name.removesuffix(".bias")][:1] for name in sorted(biases)}
    if config.qk_norm:
        layer |= {"q_norm": (head_dim,), "k_norm": (head_dim,)}
    yield "embed_tokens", (config.vocab_size, dim)
    for i in range(config.n_layers):
        for name, shape in layer.items():
            yield f"layers.{i}.{name}", shape
    yield "norm", (dim,)
    if not config.tie_embeddings:
        yield "lm_head", (config.vocab_size, dim)
    if "rope_freqs" in present:
        yield "rope_freqs", (config.n_rotated // 2,)


def optional_biases(present: Collection[str]) -> set[str]:
    """Which of OPTIONAL_BIASES a model has that holds the tensors `present`, whole groups of them."""
    parts = {layer_part(name) for name in present if name.endswith(".bias")}
    return {name for group in OPTIONAL_BIASES if not parts.isdisjoint(group) for name in group}


def layer_part(name: str) -> str:
    """ "layers.3.q_proj.bias" -> "q_proj.bias"; other names as they are."""
    return name.split(".", 2)[2] if name.startswith("layers.") else name
