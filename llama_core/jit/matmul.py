"""The matrix kernel: packed weights times a tile of packed activations (layouts drawn in `layout.py`).

Written once per kind of weights and tile size. For each output number the order of the arithmetic depends on
neither: blocks from left to right, in each one exact integer sum, then

    acc = fma(float(sum), scale_w * scale_x, acc)        acc = fma(minimum, scale_x * sum_x, acc)

and, where a block has a second set of activations, the first line again for that. A tile in which some
token has one adds zeros for the others, which changes nothing. So one token alone, in a batch, or as a
draft to be verified gives the same bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from llama_core.jit.dots import dot_block, float16
from llama_core.jit.emit import F32, I32, Code, Value, Variable, vector
from llama_core.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    ACTIVATION_SET_BYTES,
    BLOCK_COLUMNS,
    KINDS,
    PANEL_ROWS,
    PackedKind,
)
from llama_core.jit.operations import fma
from llama_core.jit.variants import Isa

# How far ahead of the multiplication weights are asked for. One core then keeps as many memory requests in
# flight as it can: measured on Zen 5, 8 KiB ahead reads 48 GB/s where the hardware alone reaches 42.
PREFETCH_BYTES = 8192
LINE_BYTES = 64


def matmul_name(kind: PackedKind, tile: int) -> str:
    return f"matmul_{kind.name}_{tile}"


def write_matmul(module: Any, isa: Isa, kind: PackedKind, tile: int) -> None:
    """`matmul(weights, panels, blocks, activations, out, out_stride, add)`: out[t][row] for `tile` tokens.

    weights: the first panel; panels: how many; blocks: blocks per panel; activations: one tile of packed
    activations; out: float32, token t's rows start `out_stride` bytes after token t - 1's; add: 1 adds to
    what stands in `out` (the residual stream), 0 overwrites it.
    """
    code = Code(module, matmul_name(kind, tile), 7)
    weights, panels, blocks, activations, out, out_stride, add = code.args
    panel_bytes = blocks * kind.block_bytes
    groups = range(0, PANEL_ROWS, isa.lanes)
    zeros = code.splat(vector(F32, isa.lanes), 0.0)
    with code.loop(0, panels) as panel:
        start = weights + panel * panel_bytes
        sums = {first: [code.var(zeros) for _ in range(tile)] for first in groups}
        with code.loop(0, blocks) as block:
            block_at = start + block * kind.block_bytes
            for line in range(0, kind.block_bytes, LINE_BYTES):
                code.prefetch(block_at + (PREFETCH_BYTES + line))
            x = activations + block * (tile * ACTIVATION_BLOCK_BYTES)
            _multiply_block(code, isa, kind, tile, block_at, x, sums)
        row_at = out + panel * 64
        places = [
            (total, row_at + out_stride * t + 4 * first)
            for first in groups
            for t, total in enumerate(sums[first])
        ]
        with code.when(add.compare("!=", 0)):
            for total, place in places:
                total.set(total.get() + code.load(zeros.type, place))
        for total, place in places:
            code.store(total.get(), place)
    code.finish()


def _multiply_block(
    code: Code, isa: Isa, kind: PackedKind, tile: int, at: Value, x: Value, sums: dict[int, list[Variable]]
) -> None:
    """Rows `first` to `first + isa.lanes` of a block after each other, for each first row in `sums`."""
    for first, totals in sums.items():
        rows = _Rows(code, isa, kind, at, first)
        for t in range(tile):
            about = x + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES)
            rows.add(totals[t], x + t * BLOCK_COLUMNS, about)
            if kind.has_min:
                totals[t].set(
                    fma(rows.minimum(), code.load_splat(F32, about + 4, isa.lanes), totals[t].get())
                )
            if tile > 1:
                code.keep_order()
    second = x + tile * ACTIVATION_SET_BYTES
    flags = code.load(ir.IntType(8 * tile), second + tile * ACTIVATION_SET_BYTES, align=1)
    with code.when(flags.compare("!=", 0)):
        for first, totals in sums.items():
            # The weights are unpacked once more: held until here, they would crowd the registers each time.
            code.keep_order()
            rows = _Rows(code, isa, kind, at, first)
            for t in range(tile):
                rows.add(
                    totals[t], second + t * BLOCK_COLUMNS, second + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES)
                )
                if tile > 1:
                    code.keep_order()


class _Rows:
    """`isa.lanes` rows of a block from row `first` on, in registers."""

    def __init__(self, code: Code, isa: Isa, kind: PackedKind, at: Value, first: int) -> None:
        self._code, self._isa, self._kind = code, isa, kind
        self._minimum_at = at + (2 * PANEL_ROWS + 2 * first)
        self._scale = float16(isa, code, at + 2 * first, isa.lanes)
        self._quants = unpack(code, kind, at + (kind.header_bytes + 4 * first), isa.lanes)

    def minimum(self) -> Value:
        return float16(self._isa, self._code, self._minimum_at, self._isa.lanes)

    def add(self, total: Variable, numbers: Value, about: Value) -> None:
        """One set of one token's activations; minima count with the first set alone."""
        code, kind, lanes = self._code, self._kind, self._isa.lanes
        if kind.offset:
            start = code.load_splat(I32, about + (8 if kind.offset == 8 else 12), lanes)
        else:
            start = code.splat(vector(I32, lanes), 0)
        dots = dot_block(self._isa, code, start, self._quants, kind.bits, numbers).to(self._scale.type)
        total.set(fma(dots, self._scale * code.load_splat(F32, about, lanes), total.get()))


def write_matmul_dispatch(module: Any, isa: Isa) -> None:
    """`matmul(kind, tile, ...)`: the kernel for a kind of weights and a tile size, with its arguments."""
    variants = {k.code * 32 + t: module.globals[matmul_name(k, t)] for k in KINDS for t in isa.tiles}
    code = Code(module, "matmul", 9)
    kind, tile, *rest = code.args
    code.choose(kind * 32 + tile, variants, rest)
    code.finish()


def unpack(code: Code, kind: PackedKind, at: Value, lanes: int) -> list[tuple[int, Value]]:
    """A block's quants as (first column, an int32 for each of `lanes` rows: four columns)."""
    words = vector(I32, lanes)
    loads = [code.load(words, at + 64 * k, align=32) for k in range(kind.quant_bytes // 64)]
    if kind.bits == 8:
        return [(4 * k, quad) for k, quad in enumerate(loads)]
    low = [(4 * k, quad & 0x0F0F0F0F) for k, quad in enumerate(loads)]
    return low + [(16 + 4 * k, (quad >> 4) & 0x0F0F0F0F) for k, quad in enumerate(loads)]
