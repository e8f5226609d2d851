"""The matrix kernel: packed weights times a tile of packed activations (layouts drawn in `layout.py`).

Written once per kind of weights and tile size. For each output number the order of the arithmetic depends on
neither: blocks from left to right, in each one exact integer sum, then

    acc = fma(float(sum), scale_w * scale_x, acc)        acc = fma(minimum, scale_x * sum_x, acc)

and, where one number of the block stands apart, the first line again for that number and its weight. So one
token alone, in a batch, or as a draft to be verified gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import dots_of, float16
from llama_core.backends.jit.kernels.emit import F32, I8, I32, I64, Code, Value, Variable, vector
from llama_core.backends.jit.kernels.operations import fma
from llama_core.backends.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    APART_BYTES,
    BLOCK_COLUMNS,
    KINDS,
    PANEL_ROWS,
    PackedKind,
)

LINE_BYTES = 64


@kernel(
    kind=lambda isa: {kind.code: kind for kind in KINDS},
    tile=lambda isa: {tile: tile for tile in isa.tiles},
)
def matmul(
    code: Code,
    isa: Isa,
    kind: PackedKind,
    tile: int,
    weights: Value,
    panels: Value,
    blocks: Value,
    activations: Value,
    out: Value,
    out_stride: Value,
    add: Value,
    ahead: Value,
) -> None:
    """out[t][row] of a tile of tokens.

    weights: the first panel; panels: how many; blocks: blocks per panel; activations: one tile of packed
    activations; out: float32, token t's rows start `out_stride` bytes after token t - 1's; add: 1 adds to
    what stands in `out` (the residual stream), 0 overwrites it; ahead: how many bytes ahead of the
    multiplication weights are asked for (`prefetch.py`).
    """
    panel_bytes = blocks * kind.block_bytes
    groups = range(0, PANEL_ROWS, isa.lanes)
    zeros = code.splat(vector(F32, isa.lanes), 0.0)
    with code.loop(0, panels) as panel:
        start = weights + panel * panel_bytes
        sums = {first: [code.var(zeros) for _ in range(tile)] for first in groups}
        with code.loop(0, blocks) as block:
            block_at = start + block * kind.block_bytes
            for line in range(0, kind.block_bytes, LINE_BYTES):
                code.prefetch(block_at + ahead + line)
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


def _multiply_block(
    code: Code, isa: Isa, kind: PackedKind, tile: int, at: Value, x: Value, sums: dict[int, list[Variable]]
) -> None:
    """sums: for each first row of `isa.lanes` rows, their sums per token."""
    abouts = [x + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES) for t in range(tile)]
    _add_dots(code, isa, kind, at, [x + t * BLOCK_COLUMNS for t in range(tile)], abouts, sums)
    if kind.has_min:
        for first, totals in sums.items():
            minimum = float16(isa, code, at + (2 * PANEL_ROWS + 2 * first), isa.lanes)
            for total, about in zip(totals, abouts, strict=True):
                total.set(fma(minimum, code.load_splat(F32, about + 4, isa.lanes), total.get()))
    aparts = [x + (tile * (BLOCK_COLUMNS + ABOUT_BYTES) + t * APART_BYTES) for t in range(tile)]
    flags = code.load(ir.IntType(8 * tile), aparts[0] + tile * APART_BYTES, align=1)
    with code.when(flags.compare("!=", 0)):
        for t in range(tile):
            flag = code.load(I8, aparts[0] + (tile * APART_BYTES + t))
            with code.when(flag.compare("!=", 0)):
                for first, totals in sums.items():
                    _add_apart(code, isa, kind, at, first, aparts[t], totals[t])


def _add_apart(
    code: Code, isa: Isa, kind: PackedKind, at: Value, first: int, apart: Value, total: Variable
) -> None:
    """What stands apart of a token, times its column's weights of the rows from `first` on."""
    lanes = isa.lanes
    scale = float16(isa, code, at + 2 * first, lanes)
    k64 = code.load(I32, apart + 4).to(I64)
    if kind.bits == 4:
        k64 = k64 & (kind.quant_bytes - 1)
    quad = code.load(vector(I32, lanes), at + k64 + (kind.header_bytes + 4 * first))
    shift = code.load_splat(I32, apart + (8 if kind.bits == 4 else 12), lanes)
    weight = ((quad >> shift) & ((1 << kind.bits) - 1)) - kind.offset
    factor = scale * code.load_splat(F32, apart, lanes)
    total.set(fma(weight.to(scale.type), factor, total.get()))


def _add_dots(
    code: Code,
    isa: Isa,
    kind: PackedKind,
    at: Value,
    numbers: list[Value],
    abouts: list[Value],
    sums: dict[int, list[Variable]],
) -> None:
    """The int8 of every token's activations. Weights are unpacked four columns at a time and multiplied with
    all tokens at once, so that few registers hold them."""
    lanes = isa.lanes
    dots = {
        first: dots_of(isa)(isa, code, [_start(code, isa, kind, a) for a in abouts], kind.bits)
        for first in sums
    }
    for k in range(kind.quant_bytes // 64):
        quads = {
            first: code.load(
                vector(I32, lanes), at + (kind.header_bytes + 64 * k + 4 * first), align=min(32, 4 * lanes)
            )
            for first in sums
        }
        for column, unpack in _unpackings(kind, k):
            fours = [code.load_splat(I32, one + column, lanes) for one in numbers]
            for first, quad in quads.items():
                dots[first].add(unpack(quad), fours)
            if len(abouts) > 1:
                code.keep_order()
    for first, totals in sums.items():
        scale = float16(isa, code, at + 2 * first, lanes)
        for total, dot, about in zip(totals, dots[first].totals(), abouts, strict=True):
            factor = scale * code.load_splat(F32, about, lanes)
            total.set(fma(dot.to(scale.type), factor, total.get()))


def _start(code: Code, isa: Isa, kind: PackedKind, about: Value) -> Value:
    """Where a token's integer sums begin: at minus the offset times the sum of its numbers, which `about`
    holds for offsets of 8 and 128."""
    offset = kind.offset - (dots_of(isa).takes_off if kind.bits == 8 else 0)
    zeros = code.splat(vector(I32, isa.lanes), 0)
    if offset == 0:
        return zeros
    taken = code.load_splat(I32, about + (8 if offset == 8 else 12), isa.lanes)
    return taken if offset > 0 else zeros - taken


def _unpackings(kind: PackedKind, k: int) -> list[tuple[int, Callable[[Value], Value]]]:
    """What the 64 bytes number k hold: first columns, and how to make whole bytes of their quants."""
    if kind.bits == 8:
        return [(4 * k, lambda quad: quad)]
    return [(4 * k, lambda quad: quad & 0x0F0F0F0F), (16 + 4 * k, lambda quad: (quad >> 4) & 0x0F0F0F0F)]
