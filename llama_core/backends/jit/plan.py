"""What the compiled backend makes of a model's tensors: which of them form a matrix, how each is kept, and
how much memory all take. No weight is read here and nothing heavy imported, since `models inspect` asks too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llama_core.architectures import describe, tensor_shapes
from llama_core.architectures.base import Attention, Layer
from llama_core.architectures.recurrent import Recurrent
from llama_core.backends.jit.build.variants import VARIANTS
from llama_core.backends.jit.control.records import PANELS_AT_ONCE, Panel
from llama_core.backends.jit.layout import (
    ACTIVATION_BLOCK_BYTES,
    BF16,
    F16,
    F32,
    FLOAT_BLOCK_BYTES,
    FP4,
    IQ4,
    IQ4K,
    LINE_BYTES,
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
    n_blocks,
    n_panels,
    packed_bytes,
)
from llama_core.backends.jit.recurrent import in_tensors, problem_of
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
# What becomes of a type: "file": its own numbers, where there are kernels for it, else 8 bits. "8bit": the
# same, but floats become 8 bits too. "float": floats stay, all else becomes float32.
Kept = Literal["file", "8bit", "float"]
# Names that form a matrix: those of a group alternate, groups follow each other.
Groups = Sequence[Sequence[str]]
NEAR_CACHE_BYTES = 1 << 20  # what a core's second cache holds on most machines
LARGEST_TILE = max(size for isa in VARIANTS.values() for size in isa.tiles)
# Of feed-forwards; `program.GATED` has a kernel for each.
ACTIVATIONS = ("silu", "gelu_tanh", "clamped_swiglu")


def shape_problem(config: ModelConfig) -> str | None:
    """Why the kernels cannot run a model of this shape, or None where they can."""
    model = describe(config)
    for layer in model.layers:
        problem = (
            _attention_problem(layer.mixer) if isinstance(layer.mixer, Attention) else problem_of(layer.mixer)
        )
        if problem is not None:
            return problem
        if layer.feed_forward.activation not in ACTIVATIONS:
            known = f"the compiled backend knows {', '.join(ACTIVATIONS)}"
            return f"its activation is {layer.feed_forward.activation}; {known}"
    shapes = {(x.n_heads, x.n_kv_heads, x.head_dim) for x in model.attentions()}
    if len(shapes | {(config.n_heads, config.n_kv_heads, config.head_dim)}) > 1:
        return "its layers have heads of several shapes; the compiled backend needs one"
    if {layer.feed_forward.hidden_dim for layer in model.layers} != {config.hidden_dim}:
        return "its layers have several hidden_dim; the compiled backend needs one"
    if model.recurrents() and config.q_dim % 32:  # whose results stand where those of states do
        return f"the width of all queries is {config.q_dim}; the compiled backend needs a multiple of 32"
    return None


def _attention_problem(spec: Attention) -> str | None:
    sizes = [("head_dim", spec.head_dim, 16)]
    if spec.qk_norm == "width":
        if spec.gated:
            return "a norm over all its queries reaches their gates; the compiled backend norms queries alone"
        sizes += [("the width of all queries", spec.q_dim, 32), ("that of all keys", spec.kv_dim, 32)]
    for name, value, multiple in sizes:
        if value % multiple:
            return f"{name} is {value}; the compiled backend needs a multiple of {multiple}"
    return None


def kind_of(tensor: Tensor, kept: Kept = "file") -> PackedKind:
    """How a tensor is packed."""
    kind = NATIVE.get(tensor.fmt.name, Q8)
    if kept == "float":
        return kind if kind.floats else F32
    return Q8 if kept == "8bit" and kind.floats else kind


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
    """Some tensors as one matrix, each packed in its own way. The rows of groups follow each other; those of
    a group's tensors alternate panel by panel (gate and up).

    used: the part of the matrix that a token reads: less than all of it where it holds experts.
    """

    groups: tuple[tuple[Tensor, ...], ...]
    kept: Kept = "file"
    used: float = 1.0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In the order in which they lie in memory."""
        return tuple(tensor for group in self.groups for tensor in group)

    @property
    def columns(self) -> int:
        """Numbers in a row; all tensors of a matrix have the same."""
        return self.groups[0][0].shape[1]

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
        return tuple(kind_of(tensor, self.kept) for tensor in self.tensors)

    @property
    def activation_bytes(self) -> int:
        """Of 32 columns of one row of the input: int8, float32 or both, as the kinds need them."""
        floats = {kind.floats is not None for kind in self.kinds}
        return ACTIVATION_BLOCK_BYTES * (False in floats) + FLOAT_BLOCK_BYTES * (True in floats)

    @property
    def scale_columns(self) -> int:
        """How many columns of the input share a scale: those of the widest block."""
        return max(kind.columns for kind in self.kinds)

    @property
    def panels_at_once(self) -> int:
        """How many panels all tiles of a step take, one after the other: so many that they, the panels behind
        them, which are asked for meanwhile, and a tile fit NEAR_CACHE_BYTES. Even, for gates and ups."""
        panel = max(packed_bytes(kind, PANEL_ROWS, self.columns) for kind in self.kinds)
        tile = LARGEST_TILE * n_blocks(self.columns) * self.activation_bytes
        fitting = (NEAR_CACHE_BYTES - tile) // (2 * panel) // 2 * 2
        return max(2, min(PANELS_AT_ONCE, fitting))

    @property
    def parts(self) -> tuple[PackedPart, ...]:
        """Where each tensor's panels are; those of the matrix lie in memory in their order."""
        parts, first, offset = [], 0, 0
        for group in self.groups:
            kinds = [kind_of(tensor, self.kept) for tensor in group]
            panel_bytes = [packed_bytes(kind, PANEL_ROWS, self.columns) for kind in kinds]
            step, stride, panels = len(group), sum(panel_bytes), n_panels(group[0].shape[0])
            start = offset
            for i, (tensor, kind) in enumerate(zip(group, kinds, strict=True)):
                parts.append(PackedPart(tensor, kind, first + i, step, start, stride))
                start += panel_bytes[i]
            first, offset = first + step * panels, offset + stride * panels
        return tuple(parts)


@dataclass(frozen=True, slots=True, eq=False)
class PackingPlan:
    """matrices: by name, "layers.0.qkv" and so on, then the "head" that computes the logits, in the order in
    which a token reads them. vectors: norms, biases and sinks by name; "layers.0.qkv.bias" belongs to
    "layers.0.qkv", and its tensors are grouped alike. filters: of convolutions, by name, (channels, taps).
    embedding: read from the file, row by row, while the model runs."""

    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, tuple[tuple[Tensor, ...], ...]]
    filters: Mapping[str, Tensor]
    embedding: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the arena that holds all of it but the embedding, with the records of its panels."""
        matrices = self.matrices.values()
        tensors = [tensor for groups in self.vectors.values() for group in groups for tensor in group]
        floats = sum(-(-tensor.shape[0] // 32) * 32 for tensor in tensors)
        floats += sum(math.prod(tensor.shape) for tensor in self.filters.values())
        # What is taken from the arena starts on a cache line.
        slack = LINE_BYTES * (2 * len(matrices) + len(self.vectors) + len(self.filters) + 2)
        panels = sum(matrix.panels for matrix in matrices)
        return sum(matrix.nbytes for matrix in matrices) + 4 * floats + panels * Panel.nbytes + slack

    @property
    def active_bytes(self) -> int:
        """Bytes of the matrices that one token reads."""
        return int(sum(matrix.nbytes * matrix.used for matrix in self.matrices.values()))

    @property
    def note(self) -> str:
        """A sentence about types without kernels, which become 8 bits; "" where all have some."""
        parts = [part for matrix in self.matrices.values() for part in matrix.parts]
        rare = [part for part in parts if part.tensor.fmt.name not in NATIVE]
        if not rare:
            return ""
        names = list(dict.fromkeys(part.tensor.fmt.name for part in rare))
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        kept = sum(packed_bytes(part.kind, *part.tensor.shape) for part in rare) >> 20
        stored = sum(part.tensor.nbytes for part in rare) >> 20
        return (
            f"There are no kernels for {listed}: these weights are kept in 8 bits, {kept:,} MiB of memory "
            f"for {stored:,} MiB of the file."
        )


def plan_packing(
    config: ModelConfig, tensors: Mapping[str, Tensor], *, eight_bit: bool = False
) -> PackingPlan:
    """The plan for a model's tensors (names and shapes as in `architectures`, checked by the caller).
    eight_bit: floats as 8 bits."""
    model = describe(config)
    kept: Kept = "8bit" if eight_bit else "file"
    matrices: dict[str, PackedMatrix] = {}
    vectors: dict[str, tuple[tuple[Tensor, ...], ...]] = {}
    of_matrices: set[str] = set()  # names of biases
    singles = [name for name, shape in tensor_shapes(config, tensors) if len(shape) == 1]
    for i, layer in enumerate(model.layers):
        experts = layer.feed_forward.experts
        for matrix, groups in _matrices(layer).items():
            name = f"layers.{i}.{matrix}"
            own = tuple(tuple(tensors[f"layers.{i}.{part}"] for part in group) for group in groups)
            by_experts = experts is not None and matrix in ("gate_up", "down")
            used = experts.n_used / experts.n if experts is not None and by_experts else 1.0
            matrices[name] = PackedMatrix(own, "float" if matrix == "router" else kept, used)
            biases = [[f"layers.{i}.{part}.bias" for part in group] for group in groups]
            if biases[0][0] in singles:
                of_matrices.update(name for group in biases for name in group)
                vectors[f"{name}.bias"] = tuple(tuple(tensors[part] for part in group) for group in biases)
    head = tensors["embed_tokens" if config.tie_embeddings else "lm_head"]
    matrices["head"] = PackedMatrix(((head,),), kept)
    own_names = (name for name in singles if name not in of_matrices and not name.startswith("rope_"))
    vectors |= {name: ((tensors[name],),) for name in own_names}
    filters = {name: tensors[name] for name in (f"layers.{i}.conv" for i in model.recurrents())}
    return PackingPlan(matrices, vectors, filters, tensors["embed_tokens"])


def _mixed_by(mixer: Attention | Recurrent) -> dict[str, Groups]:
    """The matrix that a layer's mixer takes its input from."""
    if isinstance(mixer, Attention):
        return {"qkv": [["q_proj"], ["k_proj"], ["v_proj"]]}
    return {"in": [[name] for name in in_tensors(mixer)]}


def _matrices(layer: Layer) -> dict[str, Groups]:
    """A layer's matrices, and the names of what forms each."""
    mixer: dict[str, Groups] = {**_mixed_by(layer.mixer), "o": [["o_proj"]]}
    experts = layer.feed_forward.experts
    if experts is None:
        return mixer | {"gate_up": [["gate_proj", "up_proj"]], "down": [["down_proj"]]}
    places = [f"experts.{e}." for e in range(experts.n)]
    return mixer | {
        "router": [["router"]],
        "gate_up": [[f"{at}gate_proj", f"{at}up_proj"] for at in places],
        "down": [[f"{at}down_proj"] for at in places],
    }
