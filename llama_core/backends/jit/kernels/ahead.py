"""How the matrix kernel asks for weights before it needs them.

A tile that has its panels to itself asks for each cache line some bytes ahead of its use: how many, is found
out while decoding (`prefetch.py`). Tiles of a prompt take the same panels in turn:

    panels 0 .. 7:  | tile 0 | tile 1 | ... | tile 7 |    panels 8 .. 15:  | tile 0 | tile 1 | ...

If the first tile asked for all that the others find in the cache then, two threads would want 36 GB/s from
memory for an eighth of the time, and nothing for the rest. So each tile asks for its share of the panels that
come next. On a machine whose memory others use too, prompts are up to 1.12 times as fast for it.
"""

from __future__ import annotations

from llama_core.backends.jit.kernels.emit import Code, Value
from llama_core.backends.jit.layout import BLOCK_COLUMNS, LINE_BYTES, PackedKind, ceil_div


class AskAlone:
    """Each line, `distance` bytes ahead of its use."""

    def __init__(self, code: Code, kind: PackedKind, distance: Value) -> None:
        self._code, self._kind, self._distance = code, kind, distance

    def header(self, block: Value) -> None:
        """When a block is begun. block: its address."""
        self._ask(block, self._kind.header_bytes)

    def part(self, block: Value, index: Value) -> None:
        """When 32 columns of it are begun, number `index`."""
        kind = self._kind
        self._ask(block + index * kind.quant_bytes + kind.header_bytes, kind.quant_bytes)

    def _ask(self, at: Value, nbytes: int) -> None:
        for line in range(0, nbytes, LINE_BYTES):
            self._code.prefetch(at + self._distance + line)


class AskInTurn:
    """A tile's share of the lines `distance` bytes ahead: the tile is number `turn` of `turns`."""

    def __init__(self, code: Code, kind: PackedKind, distance: Value, turn: Value, turns: Value) -> None:
        parts = kind.columns // BLOCK_COLUMNS
        lines = ceil_div(kind.block_bytes, parts * LINE_BYTES)  # for each part, if there were one tile
        self._code = code
        self._lines = (turns + (lines - 1)) / turns
        self._distance = distance + turn * self._lines * (parts * LINE_BYTES)

    def header(self, block: Value) -> None:
        """Nothing: its lines are asked for with those of the parts."""

    def part(self, block: Value, index: Value) -> None:
        """When 32 columns of a block are begun, number `index`. block: its address."""
        at = block + self._distance + index * self._lines * LINE_BYTES
        with self._code.loop(0, self._lines) as line:
            self._code.prefetch(at + line * LINE_BYTES)
