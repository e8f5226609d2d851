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

from llama_core.jit.dots import dot_quads, float16
from llama_core.jit.emit import F32, I32, Code, F32x16, I8x64, I32x16, Value, Variable
from llama_core.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    ACTIVATION_SET_BYTES,
    BLOCK_COLUMNS,
    KINDS,
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
    with code.loop(0, panels) as panel:
        start = weights + panel * panel_bytes
        sums = [code.var(code.splat(F32x16, 0.0)) for _ in range(tile)]
        with code.loop(0, blocks) as block:
            block_at = start + block * kind.block_bytes
            for line in range(0, kind.block_bytes, LINE_BYTES):
                code.prefetch(block_at + (PREFETCH_BYTES + line))
            _multiply_block(
                code, isa, kind, tile, block_at, activations + block * (tile * ACTIVATION_BLOCK_BYTES), sums
            )
        row_at = out + panel * 64
        with code.when(add.compare("!=", 0)):
            for t, total in enumerate(sums):
                total.set(total.get() + code.load(F32x16, row_at + out_stride * t))
        for t, total in enumerate(sums):
            code.store(total.get(), row_at + out_stride * t)
    code.finish()


def _multiply_block(
    code: Code, isa: Isa, kind: PackedKind, tile: int, at: Value, x: Value, sums: list[Variable]
) -> None:
    scale = float16(isa, code, at)
    minimum = float16(isa, code, at + 32) if kind.has_min else None
    quants = unpack(code, kind, at + kind.header_bytes)

    def add(t: int, first: Value, about: Value) -> None:
        """One set of one token's activations; `minimum` counts with the first set alone."""
        if kind.offset:
            total = code.load_splat(I32, about + (8 if kind.offset == 8 else 12))
        else:
            total = code.splat(I32x16, 0)
        for column, quad in quants:
            total = dot_quads(isa, code, total, quad, code.load(I32, first + column))
        sums[t].set(fma(total.to(F32x16), scale * code.load_splat(F32, about), sums[t].get()))

    for t in range(tile):
        about = x + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES)
        add(t, x + t * BLOCK_COLUMNS, about)
        if minimum is not None:
            sums[t].set(fma(minimum, code.load_splat(F32, about + 4), sums[t].get()))
        if tile > 1:
            code.keep_order()
    second = x + tile * ACTIVATION_SET_BYTES
    flags = code.load(ir.IntType(8 * tile), second + tile * ACTIVATION_SET_BYTES, align=1)
    with code.when(flags.compare("!=", 0)):
        for t in range(tile):
            about = second + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES)
            add(t, second + t * BLOCK_COLUMNS, about)
            if tile > 1:
                code.keep_order()


def write_matmul_dispatch(module: Any, isa: Isa) -> None:
    """`matmul(kind, tile, ...)`: the kernel for a kind of weights and a tile size, with its arguments."""
    variants = {k.code * 32 + t: module.globals[matmul_name(k, t)] for k in KINDS for t in isa.tiles}
    code = Code(module, "matmul", 9)
    kind, tile, *rest = code.args
    code.choose(kind * 32 + tile, variants, rest)
    code.finish()


def unpack(code: Code, kind: PackedKind, at: Value) -> list[tuple[int, Value]]:
    """A block's quants as (first column, 64 bytes: 16 rows of four columns)."""
    loads = [code.load(I8x64, at + 64 * k, align=32) for k in range(kind.quant_bytes // 64)]
    if kind.bits == 8:
        return [(4 * k, quad) for k, quad in enumerate(loads)]
    low = [(4 * k, quad & 15) for k, quad in enumerate(loads)]
    return low + [(16 + 4 * k, quad >> 4) for k, quad in enumerate(loads)]
