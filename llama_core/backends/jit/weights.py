"""A checkpoint as packed weights in one arena, and where in it the compiled step finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import Arena, address, release_file_pages
from llama_core.backends.jit.control.records import Matrix
from llama_core.backends.jit.layout import PANEL_ROWS, n_blocks, n_panels
from llama_core.backends.jit.packing import pack
from llama_core.backends.jit.plan import PackedMatrix, plan_packing
from llama_core.checkpoint import Checkpoint, Tensor, tensor_shapes
from llama_core.errors import ModelFormatError
from llama_core.events import LoadProgress
from llama_core.memory import require_memory

OnProgress = Callable[[LoadProgress], None]

# A layer's vectors that belong to a matrix, by what they are called in `vectors`, with the tensors that form
# each; other vectors go by their own names.
_BIASES = {
    "qkv.bias": ("q_proj.bias", "k_proj.bias", "v_proj.bias"),
    "o.bias": ("o_proj.bias",),
    "gate_up.bias": ("gate_proj.bias", "up_proj.bias"),
    "down.bias": ("down_proj.bias",),
}


class PackedWeights:
    """Everything the compiled step reads. matrices: in the order of the plan, four a layer and the head's;
    vectors: norms and biases, their addresses by name ("layers.0.qkv.bias", "norm").

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

        self.matrices = [_record(matrix, memory) for matrix, memory in zip(matrices, memories, strict=True)]
        self.vectors = {"norm": self._vector([plan.vectors["norm"]])}
        for i in range(config.n_layers):
            self._add_vectors(plan.vectors, f"layers.{i}.")

    @property
    def nbytes(self) -> int:
        return self._arena.nbytes

    def _add_vectors(self, vectors: Mapping[str, Tensor], prefix: str) -> None:
        """Those of one layer."""
        in_biases = {name for names in _BIASES.values() for name in names}
        own = [name.removeprefix(prefix) for name in vectors if name.startswith(prefix)]
        groups = {name: (name,) for name in own if name not in in_biases} | _BIASES
        for group, names in groups.items():
            found = [vectors[prefix + name] for name in names if prefix + name in vectors]
            if found:
                self.vectors[prefix + group] = self._vector(found, alternate=group == "gate_up.bias")

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


def _record(matrix: PackedMatrix, memory: NDArray[np.uint8]) -> Matrix:
    """What the compiled step needs to know of it."""
    blocks, kind = n_blocks(matrix.columns), matrix.kind
    record = Matrix()
    record.set(
        kind=kind.code,
        weights=address(memory),
        panels=matrix.panels,
        blocks=blocks,
        panel_bytes=blocks * kind.block_bytes,
    )
    return record


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
