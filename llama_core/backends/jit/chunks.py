"""Tensors cut into chunks: some panels each, which a thread packs before it takes the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llama_core.backends.jit.layout import PANEL_ROWS, ceil_div
from llama_core.backends.jit.plan import PackedPart

# Bytes of the file in a chunk. Two threads that write into one huge page for the first time each clear all of
# it, and one throws it away: chunks are larger than such a page. NumPy, which unpacks the types without
# kernels, is a hundred times slower, and a load can be cancelled between two chunks.
CHUNK_BYTES, SLOW_CHUNK_BYTES = 4 << 20, 1 << 18
# Panels of a chunk are a multiple of these: whole heads, whose rows may change places.
TOGETHER = 16


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """`panels` panels of a part from number `first` on, and the address where the first is to be."""

    part: PackedPart
    first: int
    panels: int
    out: int

    @property
    def rows(self) -> slice:
        """Those of the tensor, without what a last panel lacks."""
        start = self.first * PANEL_ROWS
        return slice(start, min(self.part.tensor.shape[0], start + self.panels * PANEL_ROWS))

    @property
    def n_rows(self) -> int:
        """How many these are."""
        return int(self.rows.stop - self.rows.start)

    @property
    def nbytes(self) -> int:
        """Of the file."""
        return int(self.n_rows * self.part.tensor.raw.shape[1])


def cut(part: PackedPart, memory: int, chunk_bytes: int | None = None) -> Iterator[Chunk]:
    """A part's panels, some at a time; memory: the address where its matrix is; chunk_bytes: about so many of
    the file in a chunk, other than usual (an experiment's)."""
    panel_bytes = PANEL_ROWS * part.tensor.raw.shape[1]
    if part.is_native:
        at_once = ceil_div(chunk_bytes or CHUNK_BYTES, panel_bytes * TOGETHER) * TOGETHER
    else:
        at_once = max(1, SLOW_CHUNK_BYTES // panel_bytes)
    for first in range(0, part.panels, at_once):
        panels = min(at_once, part.panels - first)
        yield Chunk(part, first, panels, memory + part.offset + first * part.stride)
