"""A checkpoint as packed weights in one arena, with the records by which the compiled step finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.engine.events import LoadProgress
from llama_core.errors import ModelFormatError
from llama_core.jit import fields
from llama_core.jit.buffers import Arena, address, release_file_pages
from llama_core.jit.layout import PANEL_ROWS, PackedKind, n_blocks, n_panels, packed_bytes
from llama_core.jit.packing import kind_of, pack
from llama_core.system_memory import require_memory

OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """Some tensors as one matrix; their rows follow each other, or alternate panel by panel (gate and up)."""

    tensors: tuple[Tensor, ...]
    alternate: bool = False

    @property
    def kind(self) -> PackedKind:
        return kind_of(self.tensors)

    @property
    def columns(self) -> int:
        return self.tensors[0].shape[1]

    @property
    def panels(self) -> int:
        return sum(n_panels(t.shape[0]) for t in self.tensors)

    @property
    def nbytes(self) -> int:
        return packed_bytes(self.kind, self.panels * PANEL_ROWS, self.columns)

    def parts(self, memory: NDArray[np.uint8]) -> Iterator[tuple[Tensor, NDArray[np.uint8]]]:
        """Each tensor with its place in the matrix's memory, (panels, blocks, block_bytes)."""
        whole = memory.reshape(self.panels, n_blocks(self.columns), self.kind.block_bytes)
        first = 0
        for i, tensor in enumerate(self.tensors):
            panels = n_panels(tensor.shape[0])
            yield tensor, whole[i :: len(self.tensors)] if self.alternate else whole[first : first + panels]
            first += panels

    def record(self, memory: NDArray[np.uint8]) -> list[int]:
        """The words that `fields.KIND` and following name."""
        blocks = n_blocks(self.columns)
        return [self.kind.code, address(memory), self.panels, blocks, blocks * self.kind.block_bytes]


class PackedWeights:
    """Everything the compiled step reads: matrices, norms, records. `layers` and `head` are addresses.

    The arena holds matrices in the order in which a token reads them, so that decoding is one stream.
    """

    def __init__(self, checkpoint: Checkpoint, threads: int, on_progress: OnProgress | None = None) -> None:
        config, tensors = checkpoint.config, _checked(checkpoint)
        self.embedding = tensors["embed_tokens"]
        matrices = [m for i in range(config.n_layers) for m in _layer_matrices(tensors, i)]
        matrices.append(PackedMatrix((tensors["embed_tokens" if config.tie_embeddings else "lm_head"],)))
        vector_floats = sum(-(-t.shape[0] // 32) * 32 for t in tensors.values() if len(t.shape) == 1)
        n_records = len(matrices) * fields.MATRIX_WORDS + config.n_layers * fields.LAYER_WORDS
        # A cache line of slack for each piece.
        slack = 64 * (len(matrices) + len(tensors) + 2)
        total = sum(m.nbytes for m in matrices) + 4 * vector_floats + 8 * n_records + slack
        require_memory("The packed weights", total, "a smaller model would work")
        self._arena = Arena(total, huge=True)
        memories = [self._arena.take(m.nbytes) for m in matrices]
        _fill(matrices, memories, threads, on_progress)
        self.kinds = tuple(dict.fromkeys((m.tensors[0].fmt.name, m.kind.name) for m in matrices))

        records = self._arena.words(len(matrices) * fields.MATRIX_WORDS).reshape(len(matrices), -1)
        for row, matrix, memory in zip(records, matrices, memories, strict=True):
            row[: fields.PANEL_BYTES + 1] = matrix.record(memory)
        layers = self._arena.words(config.n_layers * fields.LAYER_WORDS).reshape(config.n_layers, -1)
        for i, layer in enumerate(layers):
            places = (fields.QKV_MATRIX, fields.O_MATRIX, fields.GATE_UP_MATRIX, fields.DOWN_MATRIX)
            for place, record in zip(places, records[4 * i :], strict=False):
                layer[place] = address(record)
            self._add_vectors(layer, tensors, i, config)
        self.layers = address(layers)
        self.head = address(records[-1])
        self.final_norm = self._vector([tensors["norm"]])

    @property
    def nbytes(self) -> int:
        return self._arena.nbytes

    def _add_vectors(
        self, layer: NDArray[np.int64], tensors: dict[str, Tensor], i: int, config: ModelConfig
    ) -> None:
        def get(name: str) -> Tensor:
            return tensors[f"layers.{i}.{name}"]

        layer[fields.ATTENTION_NORM] = self._vector([get("input_layernorm")])
        layer[fields.FFN_NORM] = self._vector([get("post_attention_layernorm")])
        if config.attention_bias:
            layer[fields.QKV_BIAS] = self._vector([get(f"{p}_proj.bias") for p in "qkv"])
        if config.qk_norm:
            layer[fields.Q_NORM] = self._vector([get("q_norm")])
            layer[fields.K_NORM] = self._vector([get("k_norm")])

    def _vector(self, tensors: Sequence[Tensor]) -> int:
        """Vectors one after the other, padded with zeros to a multiple of 32; returns the address."""
        values = np.concatenate([t.to_float32() for t in tensors])
        place = self._arena.floats(-(-len(values) // 32) * 32)
        place[: len(values)] = values
        return address(place)


def _checked(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors the model needs, by name. Raises ModelFormatError for one that is missing or misshapen."""
    found = {}
    for name, shape in _shapes(checkpoint.config):
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            raise ModelFormatError(checkpoint.path, name, "this tensor is missing")
        if tensor.shape != shape:
            raise ModelFormatError(checkpoint.path, name, f"its shape is {tensor.shape}, not {shape}")
        found[name] = tensor
    return found


def _shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    dim, q_dim, kv_dim, hidden = config.dim, config.q_dim, config.kv_dim, config.hidden_dim
    yield "embed_tokens", (config.vocab_size, dim)
    yield "norm", (dim,)
    if not config.tie_embeddings:
        yield "lm_head", (config.vocab_size, dim)
    rows = {"q_proj": q_dim, "k_proj": kv_dim, "v_proj": kv_dim}
    for i in range(config.n_layers):
        layer = f"layers.{i}."
        for name, n_rows in (rows | {"gate_proj": hidden, "up_proj": hidden}).items():
            yield layer + name, (n_rows, dim)
        yield layer + "o_proj", (dim, q_dim)
        yield layer + "down_proj", (dim, hidden)
        yield layer + "input_layernorm", (dim,)
        yield layer + "post_attention_layernorm", (dim,)
        if config.attention_bias:
            for name, n_rows in rows.items():
                yield f"{layer}{name}.bias", (n_rows,)
        if config.qk_norm:
            yield layer + "q_norm", (config.head_dim,)
            yield layer + "k_norm", (config.head_dim,)


def _layer_matrices(tensors: dict[str, Tensor], i: int) -> Iterator[PackedMatrix]:
    def get(*names: str) -> tuple[Tensor, ...]:
        return tuple(tensors[f"layers.{i}.{name}_proj"] for name in names)

    yield PackedMatrix(get("q", "k", "v"))
    yield PackedMatrix(get("o"))
    yield PackedMatrix(get("gate", "up"), alternate=True)
    yield PackedMatrix(get("down"))


def _fill(
    matrices: list[PackedMatrix],
    memories: list[NDArray[np.uint8]],
    threads: int,
    on_progress: OnProgress | None,
) -> None:
    """Pack all matrices, several at once: NumPy lets go of the interpreter's lock while it copies."""
    total = sum(t.nbytes for m in matrices for t in m.tensors)
    done = 0

    def fill_one(matrix: PackedMatrix, memory: NDArray[np.uint8]) -> int:
        for tensor, place in matrix.parts(memory):
            pack(tensor, matrix.kind, place)
            # Otherwise the file's pages would count as this process's memory beside their packed copy.
            release_file_pages(tensor.raw)
        return sum(t.nbytes for t in matrix.tensors)

    with ThreadPoolExecutor(threads, thread_name_prefix="pack-weights") as pool:
        for size in pool.map(fill_one, matrices, memories):
            done += size
            if on_progress is not None:
                on_progress(LoadProgress("weights", done, total))
