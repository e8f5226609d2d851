"""What the compiled backend makes of a model's tensors: which of them form a matrix, how each is kept, and
how much memory all take. No weight is read here and nothing heavy imported, since `models inspect` asks too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from llama_core.architectures import describe, tensor_shapes
from llama_core.architectures.base import Attention
from llama_core.backends.jit.control.records import Panel
from llama_core.backends.jit.layout import (
    ACTIVATION_BLOCK_BYTES,
    BF16,
    F16,
    F32,
    FLOAT_BLOCK_BYTES,
    FP4,
    IQ4,
    IQ4K,
    PANEL_ROWS,
    Q2K,
    Q3K,
    Q4,
    Q4K,
    Q4M,
    Q5,
    Q5K,
    Q5M,
    Q6K,
    Q8,
    PackedKind,
    n_panels,
    packed_bytes,
)
from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig

# Formats that keep their very numbers (see `packing.py`).
NATIVE = {
    "Q4_0": Q4,
    "Q4_1": Q4M,
    "Q5_0": Q5,
    "Q5_1": Q5M,
    "Q8_0": Q8,
    "Q2_K": Q2K,
    "Q3_K": Q3K,
    "Q4_K": Q4K,
    "Q5_K": Q5K,
    "Q6_K": Q6K,
    "IQ4_NL": IQ4,
    "IQ4_XS": IQ4K,
    "MXFP4": FP4,
    "F16": F16,
    "BF16": BF16,
    "F32": F32,
}
# Of feed-forwards; `program.GATED` has a kernel for each.
ACTIVATIONS = ("silu", "gelu_tanh", "clamped_swiglu")
# Cache lines: what is taken from the arena starts on one.
LINE_BYTES = 64


def shape_problem(config: ModelConfig) -> str | None:
    """Why the kernels cannot run a model of this shape, or None where they can."""
    model = describe(config)
    for layer in model.layers:
        if not isinstance(layer.mixer, Attention):
            return "some of its layers have a state instead of attention; the compiled backend has none"
        spec = layer.mixer
        if spec.gated:
            return "its attention has gates; the compiled backend knows none"
        sizes = [("head_dim", spec.head_dim, 16)]
        if spec.qk_norm == "width":
            sizes += [("the width of all queries", spec.q_dim, 32), ("that of all keys", spec.kv_dim, 32)]
        for name, value, multiple in sizes:
            if value % multiple:
                return f"{name} is {value}; the compiled backend needs a multiple of {multiple}"
        if layer.feed_forward.experts is not None:
            return "it has experts; the compiled backend has none"
        if layer.feed_forward.activation not in ACTIVATIONS:
            known = f"the compiled backend knows {', '.join(ACTIVATIONS)}"
            return f"its activation is {layer.feed_forward.activation}; {known}"
    shapes = {(x.attention.n_heads, x.attention.n_kv_heads, x.attention.head_dim) for x in model.layers}
    if len(shapes | {(config.n_heads, config.n_kv_heads, config.head_dim)}) > 1:
        return "its layers have heads of several shapes; the compiled backend needs one"
    if {layer.feed_forward.hidden_dim for layer in model.layers} != {config.hidden_dim}:
        return "its layers have several hidden_dim; the compiled backend needs one"
    return None


def kind_of(tensor: Tensor, eight_bit: bool = False) -> PackedKind:
    """How a tensor is packed: its own numbers where the kernels know them; eight_bit: floats as 8 bits."""
    kind = NATIVE.get(tensor.fmt.name, Q8)
    return Q8 if eight_bit and kind.floats else kind


@dataclass(frozen=True, slots=True, eq=False)
class PackedPart:
    """A tensor's place in a matrix. Its panels are number `first`, `first + step`, ...; in memory they start
    at `offset` and are `stride` bytes apart."""

    tensor: Tensor
    kind: PackedKind
    first: int
    step: int
    offset: int
    stride: int

    @property
    def panels(self) -> int:
        """Its panels, the last one perhaps padded."""
        return n_panels(self.tensor.shape[0])

    @property
    def is_native(self) -> bool:
        """Whether it keeps its very numbers."""
        return NATIVE.get(self.tensor.fmt.name) is self.kind


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """Some tensors as one matrix, each packed in its own way. Their rows follow each other, or alternate
    panel by panel (gate and up). eight_bit: see `kind_of`."""

    tensors: tuple[Tensor, ...]
    alternate: bool = False
    eight_bit: bool = False

    @property
    def columns(self) -> int:
        """Numbers in a row; all tensors of a matrix have the same."""
        return self.tensors[0].shape[1]

    @property
    def panels(self) -> int:
        """Panels of all tensors; a panel never holds rows of two."""
        return sum(n_panels(t.shape[0]) for t in self.tensors)

    @property
    def nbytes(self) -> int:
        """Packed bytes, without what aligns the next matrix."""
        return sum(packed_bytes(kind, *t.shape) for kind, t in zip(self.kinds, self.tensors, strict=True))

    @property
    def kinds(self) -> tuple[PackedKind, ...]:
        """Of each tensor."""
        return tuple(kind_of(tensor, self.eight_bit) for tensor in self.tensors)

    @property
    def activation_bytes(self) -> int:
        """Of 32 columns of one row of the input: int8, float32 or both, as the kinds need them."""
        floats = {kind.floats is not None for kind in self.kinds}
        return ACTIVATION_BLOCK_BYTES * (False in floats) + FLOAT_BLOCK_BYTES * (True in floats)

    @property
    def parts(self) -> tuple[PackedPart, ...]:
        """Where each tensor's panels are; those of the matrix lie in memory in their order."""
        kinds = self.kinds
        panel_bytes = [packed_bytes(kind, PANEL_ROWS, self.columns) for kind in kinds]
        step = len(self.tensors) if self.alternate else 1
        parts, first, offset = [], 0, 0
        for tensor, kind, size in zip(self.tensors, kinds, panel_bytes, strict=True):
            stride = sum(panel_bytes) if self.alternate else size
            parts.append(PackedPart(tensor, kind, first, step, offset, stride))
            panels = 1 if self.alternate else n_panels(tensor.shape[0])
            first, offset = first + panels, offset + panels * size
        return tuple(parts)


@dataclass(frozen=True, slots=True, eq=False)
class PackingPlan:
    """matrices: four a layer (q, k, v; o; gate and up; down), then the one that computes the logits, in the
    order in which a token reads them. vectors: norms and biases by name. embedding: read from the file, row
    by row, while the model runs."""

    matrices: tuple[PackedMatrix, ...]
    vectors: Mapping[str, Tensor]
    embedding: Tensor
    n_layers: int

    @property
    def nbytes(self) -> int:
        """Bytes of the arena that holds all of it but the embedding, with the records of its panels."""
        panels = sum(m.panels for m in self.matrices)
        floats = sum(-(-t.shape[0] // 32) * 32 for t in self.vectors.values())
        slack = LINE_BYTES * (2 * len(self.matrices) + len(self.vectors) + 2)
        return sum(m.nbytes for m in self.matrices) + 4 * floats + panels * Panel.nbytes + slack


def plan_packing(
    config: ModelConfig, tensors: Mapping[str, Tensor], *, eight_bit: bool = False
) -> PackingPlan:
    """The plan for a model's tensors (names and shapes as in `architectures`, checked by the caller).
    eight_bit: floats as 8 bits."""
    names = [name for name, shape in tensor_shapes(config, tensors) if len(shape) == 1]
    head = tensors["embed_tokens" if config.tie_embeddings else "lm_head"]
    matrices = [matrix for i in range(config.n_layers) for matrix in _layer_matrices(tensors, i)]
    matrices.append(PackedMatrix((head,)))
    return PackingPlan(
        matrices=tuple(replace(matrix, eight_bit=eight_bit) for matrix in matrices),
        vectors={name: tensors[name] for name in names if name != "rope_freqs"},
        embedding=tensors["embed_tokens"],
        n_layers=config.n_layers,
    )


def _layer_matrices(tensors: Mapping[str, Tensor], i: int) -> Iterator[PackedMatrix]:
    def get(*names: str) -> tuple[Tensor, ...]:
        return tuple(tensors[f"layers.{i}.{name}_proj"] for name in names)

    yield PackedMatrix(get("q", "k", "v"))
    yield PackedMatrix(get("o"))
    yield PackedMatrix(get("gate", "up"), alternate=True)
    yield PackedMatrix(get("down"))
