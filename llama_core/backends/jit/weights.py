"""A checkpoint as packed weights in one arena, with the records by which the compiled step finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import tensor_shapes
from llama_core.backends.jit.buffers import Arena, address, release_file_pages
from llama_core.backends.jit.control import fields
from llama_core.backends.jit.layout import PANEL_ROWS, n_blocks, n_panels
from llama_core.backends.jit.packing import pack
from llama_core.backends.jit.plan import PackedMatrix, plan_packing
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.errors import ModelFormatError
from llama_core.events import LoadProgress
from llama_core.memory import require_memory

OnProgress = Callable[[LoadProgress], None]

# A layer's vectors: the word that has the address, and the tensors that stand there.
_VECTORS = {
    fields.ATTENTION_NORM: ("input_layernorm",),
    fields.QKV_BIAS: ("q_proj.bias", "k_proj.bias", "v_proj.bias"),
    fields.Q_NORM: ("q_norm",),
    fields.K_NORM: ("k_norm",),
    fields.O_BIAS: ("o_proj.bias",),
    fields.FFN_NORM: ("post_attention_layernorm",),
    fields.GATE_UP_BIAS: ("gate_proj.bias", "up_proj.bias"),
    fields.DOWN_BIAS: ("down_proj.bias",),
}


class PackedWeights:
    """Everything the compiled step reads: matrices, norms, records. `layers` and `head` are addresses.

    The arena holds matrices in the order in which a token reads them, so that decoding is one stream.
    """

    def __init__(self, checkpoint: Checkpoint, threads: int, on_progress: OnProgress | None = None) -> None:
        config = checkpoint.config
        _check(checkpoint)
        plan = plan_packing(config, checkpoint.tensors)
        self.embedding = plan.embedding
        require_memory("The packed weights", plan.nbytes, "a smaller model would work")
        self._arena = Arena(plan.nbytes, huge=True)
        matrices = plan.matrices
        memories = [self._arena.take(m.nbytes) for m in matrices]
        _fill(matrices, memories, threads, on_progress)
        self.kinds = tuple(dict.fromkeys((t.fmt.name, m.kind.name) for m in matrices for t in m.tensors))

        records = self._arena.words(len(matrices) * fields.MATRIX_WORDS).reshape(len(matrices), -1)
        for row, matrix, memory in zip(records, matrices, memories, strict=True):
            row[: fields.PANEL_BYTES + 1] = _record(matrix, memory)
        layers = self._arena.words(config.n_layers * fields.LAYER_WORDS).reshape(config.n_layers, -1)
        for i, layer in enumerate(layers):
            places = (fields.QKV_MATRIX, fields.O_MATRIX, fields.GATE_UP_MATRIX, fields.DOWN_MATRIX)
            for place, record in zip(places, records[4 * i :], strict=False):
                layer[place] = address(record)
            self._add_vectors(layer, plan.vectors, f"layers.{i}.")
        self.layers = address(layers)
        self.head = address(records[-1])
        self.final_norm = self._vector([plan.vectors["norm"]])

    @property
    def nbytes(self) -> int:
        return self._arena.nbytes

    def _add_vectors(self, layer: NDArray[np.int64], vectors: Mapping[str, Tensor], prefix: str) -> None:
        for place, names in _VECTORS.items():
            found = [vectors[prefix + name] for name in names if prefix + name in vectors]
            if found:
                layer[place] = self._vector(found, alternate=place == fields.GATE_UP_BIAS)

    def _vector(self, tensors: Sequence[Tensor], *, alternate: bool = False) -> int:
        """Vectors one after the other, or in turn panel by panel as the rows of their matrices stand, padded
        with zeros to a multiple of 32; returns the address."""
        parts = [t.to_float32() for t in tensors]
        if alternate:
            panels = [np.pad(part, (0, -len(part) % PANEL_ROWS)).reshape(-1, PANEL_ROWS) for part in parts]
            parts = [np.stack(panels, axis=1).reshape(-1)]
        values = np.concatenate(parts)
        place = self._arena.floats(-(-len(values) // 32) * 32)
        place[: len(values)] = values
        return address(place)


def _parts(matrix: PackedMatrix, memory: NDArray[np.uint8]) -> Iterator[tuple[Tensor, NDArray[np.uint8]]]:
    """Each tensor with its place in the matrix's memory, (panels, blocks, block_bytes)."""
    whole = memory.reshape(matrix.panels, n_blocks(matrix.columns), matrix.kind.block_bytes)
    first = 0
    for i, tensor in enumerate(matrix.tensors):
        panels = n_panels(tensor.shape[0])
        yield tensor, whole[i :: len(matrix.tensors)] if matrix.alternate else whole[first : first + panels]
        first += panels


def _record(matrix: PackedMatrix, memory: NDArray[np.uint8]) -> list[int]:
    """The words that `fields.KIND` and following name."""
    blocks = n_blocks(matrix.columns)
    kind = matrix.kind
    return [kind.code, address(memory), matrix.panels, blocks, blocks * kind.block_bytes]


def _check(checkpoint: Checkpoint) -> None:
    """Raise ModelFormatError for a tensor that the model needs and that is missing or misshapen."""
    for name, shape in tensor_shapes(checkpoint.config, checkpoint.tensors):
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            raise ModelFormatError(checkpoint.path, name, "this tensor is missing")
        if tensor.shape != shape:
            raise ModelFormatError(checkpoint.path, name, f"its shape is {tensor.shape}, not {shape}")


def _fill(
    matrices: Sequence[PackedMatrix],
    memories: list[NDArray[np.uint8]],
    threads: int,
    on_progress: OnProgress | None,
) -> None:
    """Pack all matrices, several at once: NumPy lets go of the interpreter's lock while it copies."""
    total = sum(t.nbytes for m in matrices for t in m.tensors)
    done = 0

    def fill_one(matrix: PackedMatrix, memory: NDArray[np.uint8]) -> int:
        for tensor, place in _parts(matrix, memory):
            pack(tensor, matrix.kind, place)
            # Otherwise the file's pages would count as this process's memory beside their packed copy.
            release_file_pages(tensor.raw)
        return sum(t.nbytes for t in matrix.tensors)

    with ThreadPoolExecutor(threads, thread_name_prefix="pack-weights") as pool:
        for size in pool.map(fill_one, matrices, memories):
            done += size
            if on_progress is not None:
                on_progress(LoadProgress("weights", done, total))
