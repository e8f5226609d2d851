"""What a loader hands over: a config, lazily read tensors under one set of names, a tokenizer.

The names and shapes are those of the config's family (`architectures`); rows are outputs.

RoPE has one layout in the whole engine: dimension j of a head is paired with j + n_rotated / 2
("rotate half"). Files that pair 2j with 2j + 1 get a `row_order` on q_proj and k_proj (and on their
biases) that moves whole rows, which is possible without touching the blocks of a quantised row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Stored
from llama_core.config import ModelConfig
from llama_core.file_rows import FileRows, read_rows
from llama_core.quant.table import BlockFormat
from llama_core.tokenizers.base import Tokenizer

# How many bytes are read at a time before they are dequantised.
PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor still in its file.

    raw: (n_rows, row_bytes) uint8, in the file or in memory; a vector has one row.
    row_order: (n_rows,) the file's row for each of our rows, or None where they agree (see the module).
    column_order: (n_columns,) the same for columns, of types that keep each number by itself.
    stored: how a vector stands in the file, see `TensorSpec`.
    """

    name: str
    shape: tuple[int, ...]
    fmt: BlockFormat
    raw: FileRows | NDArray[np.uint8]
    row_order: NDArray[np.intp] | None = None
    column_order: NDArray[np.intp] | None = None
    stored: Stored = ""

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return int(self.raw.size)

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Our rows start..stop as (n, row_bytes) uint8, read from the file.

        Raises ModelFormatError where the file was cut short since it was opened, like all that reads."""
        at = slice(start, stop) if self.row_order is None else self.row_order[start:stop]
        rows = read_rows(self.raw[at])
        if self.column_order is None:
            return rows
        numbers = rows.reshape(len(rows), -1, self.fmt.block_bytes)[:, self.column_order]
        return numbers.reshape(rows.shape)

    def to_float32(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """All values as float32 of `shape`, written into `out` (same shape) where given.

        No temporary is larger than a few rows, so a part of a bigger buffer can be filled in place.
        """
        # Here, because `models inspect` does without: the block formats take longer to import than to list.
        from llama_core.quant.dequantize import dequantize

        if out is None:
            out = np.empty(self.shape, dtype=np.float32)
        if len(self.shape) == 1:
            raw = read_rows(self.raw)
            if self.row_order is not None:  # a bias: its values are the rows
                out[:] = dequantize(raw, self.fmt).reshape(-1)[self.row_order]
            else:
                dequantize(raw, self.fmt, out=out[None, :])
            if self.stored == "less_one":
                out += 1.0
            elif self.stored == "log_of_negative":
                np.negative(np.exp(out, out=out), out=out)
            return out
        n_rows = self.shape[0]
        step = max(1, PIECE_BYTES // self.raw.shape[1])
        for start in range(0, n_rows, step):
            dequantize(self.rows(start, start + step), self.fmt, out=out[start : start + step])
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An opened model file: nothing but its header has been read.

    file_format: "gguf", "safetensors", "llama2c" or "npz". metadata: the header's own key-value pairs, for
    `models inspect`. chat_template: Jinja source, or None for a base model (plain completion). sampling: what
    its makers advise, by the fields of `SamplingParams`.
    """

    path: Path
    file_format: str
    file_bytes: int
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer
    chat_template: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
