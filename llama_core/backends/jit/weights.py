"""A checkpoint as packed weights in one arena, and where in it the compiled step finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import tensor_shapes
from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.control.records import Matrix, Panel
from llama_core.backends.jit.layout import PANEL_ROWS, n_blocks
from llama_core.backends.jit.packing import OnProgress, pack_matrices
from llama_core.backends.jit.plan import PackedMatrix, PackingPlan, plan_packing
from llama_core.backends.jit.record import Table
from llama_core.backends.jit.streaming import PackKernels
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.errors import ModelFormatError
from llama_core.memory import require_memory


class PackedWeights:
    """Everything the compiled step reads. matrices: by the plan's names; vectors: their addresses, and those
    of filters, by the plan's names; activation_bytes: the most that a matrix needs for a block of its input;
    active_bytes: of the matrices, what one token reads; final_norm: (dim,), the vector "norm".

    The arena holds matrices in the order in which a token reads them, so that decoding is one stream.
    """

    def __init__(
        self,
        plan: PackingPlan,
        kernels: PackKernels,
        threads: int,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.embedding = plan.embedding
        self._arena = Arena(plan.nbytes, huge=True)
        matrices = list(plan.matrices.values())
        memories = [self._arena.take(m.nbytes) for m in matrices]
        pack_matrices(matrices, memories, kernels, threads, on_progress, plan.note)
        parts = (part for matrix in matrices for part in matrix.parts)
        self.kinds = tuple(dict.fromkeys((part.tensor.fmt.name, part.kind.name) for part in parts))

        self.activation_bytes = max(matrix.activation_bytes for matrix in matrices)
        self.active_bytes = plan.active_bytes
        made = (self._matrix(*pair) for pair in zip(matrices, memories, strict=True))
        self.matrices = dict(zip(plan.matrices, made, strict=True))
        self.vectors = {name: self._vector(groups) for name, groups in plan.vectors.items()}
        self.vectors |= {name: self._filters(tensor) for name, tensor in plan.filters.items()}
        self.final_norm: NDArray[np.float32] = plan.vectors["norm"][0][0].to_float32()

    @property
    def nbytes(self) -> int:
        """Memory of the arena."""
        return self._arena.nbytes

    def _matrix(self, matrix: PackedMatrix, memory: NDArray[np.uint8]) -> Matrix:
        """The record of a packed matrix, and those of its panels."""
        words = self._arena.words(matrix.panels * Panel.n_words)
        panels = Table(Panel, matrix.panels, words)
        _write_panel_records(panels, matrix, memory)
        record = Matrix()
        record.set(
            panels=matrix.panels,
            blocks=n_blocks(matrix.columns),
            activation_bytes=matrix.activation_bytes,
            scale_columns=matrix.scale_columns,
            panels_at_once=matrix.panels_at_once,
            records=panels.address(),
        )
        return record

    def _vector(self, groups: Sequence[Sequence[Tensor]]) -> int:
        """Vectors as the rows of their matrices stand: groups one after the other, those of a group in turn
        panel by panel. Padded with zeros to a multiple of 32; returns the address."""
        parts = []
        for group in groups:
            rows = [tensor.to_float32() for tensor in group]
            panels = [np.pad(row, (0, -len(row) % PANEL_ROWS)).reshape(-1, PANEL_ROWS) for row in rows]
            parts.append(np.stack(panels, axis=1).reshape(-1))
        values = np.concatenate(parts)
        place = self._arena.floats(-(-len(values) // 32) * 32)
        place[: len(values)] = values
        return address(place)

    def _filters(self, tensor: Tensor) -> int:
        """A convolution's filters, (channels, taps), as a row of all channels for each tap; returns the
        address."""
        values = tensor.to_float32().T
        place = self._arena.floats(values.size)
        place[:] = values.reshape(-1)
        return address(place)


def _write_panel_records(panels: Table[Panel], matrix: PackedMatrix, memory: NDArray[np.uint8]) -> None:
    """Fill in the records of a matrix's panels."""
    kinds, weights = panels.column(Panel.kind), panels.column(Panel.weights)
    for part in matrix.parts:
        own = slice(part.first, part.first + part.step * part.panels, part.step)
        kinds[own] = part.kind.code
        weights[own] = address(memory) + part.offset + part.stride * np.arange(part.panels)
    changes = np.flatnonzero(np.diff(kinds)) + 1
    ends = np.append(changes, len(panels))
    lengths = np.diff(ends, prepend=0)
    panels.column(Panel.alike)[:] = np.repeat(ends, lengths) - np.arange(len(panels))


def checked_plan(checkpoint: Checkpoint, *, eight_bit: bool = False) -> PackingPlan:
    """The plan for a checkpoint's weights. eight_bit: floats as 8 bits.

    Raises ModelFormatError for a tensor that the model needs and that is missing or misshapen,
    NotEnoughMemoryError for a model that would not fit.
    """
    for name, shape in tensor_shapes(checkpoint.config, checkpoint.tensors):
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            raise ModelFormatError(checkpoint.path, name, "this tensor is missing")
        if tensor.shape != shape:
            raise ModelFormatError(checkpoint.path, name, f"its shape is {tensor.shape}, not {shape}")
    plan = plan_packing(checkpoint.config, checkpoint.tensors, eight_bit=eight_bit)
    require_memory("The packed weights", plan.nbytes, "a smaller model would work")
    return plan
