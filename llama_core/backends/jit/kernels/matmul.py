"""The matrix kernel: packed weights times a tile of packed activations (layouts drawn in `layout.py`).

Written once per kind of weights and tile size. For each output number the order of the arithmetic does not
depend on the tile's size. Blocks are taken from left to right. Of one of 32 columns there is one exact
integer sum, and then

    acc = fma(float(sum), scale_w * scale_x, acc)        acc = fma(minimum, scale_x * sum_x, acc)

and where one number of the 32 is an outlier, the first line again for that number and its weight. In a block
of 256 columns the activations have one scale. Each group of columns has an exact integer sum, all minima of
the block have another, and

    part = fma(float(sum), group's scale, part)                              for each group
    part = fma(weight, group's scale * outlier / scale_x, part)              acc = fma(minimum, outlier, acc)
    acc = fma(fma(float(sum of minima), dmin, part * d), scale_x, acc)

Most of the work around the integer products is done once in 256 columns, not once in 32. Weights that are
floats are multiplied column by column. So one token alone, in a batch, or as a draft to be verified gives the
same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llvmlite import ir

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.ahead import AskAlone, AskInTurn
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import Dots, add_pairs, dots_of, float16
from llama_core.backends.jit.kernels.emit import F32, I8, I16, I32, I64, Code, Value, Variable, vector
from llama_core.backends.jit.kernels.operations import fma
from llama_core.backends.jit.kernels.packed import Block, Part, Tile
from llama_core.backends.jit.layout import (
    BLOCK_COLUMNS,
    FLOAT_BLOCK_BYTES,
    HALF_SUMS_AT,
    HALVES_32_AT,
    KINDS,
    OUTLIER_RATIO_AT,
    PAIR_SUMS_AT,
    PANEL_ROWS,
    SCALE_AT,
    SCALED_SUM_AT,
    SUM_8_AT,
    SUM_128_AT,
    PackedKind,
)

Ask = AskAlone | AskInTurn
# For each first row of `isa.lanes` rows, a sum per token.
Sums = dict[int, list[Variable]]


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
    turn: Value,
    turns: Value,
) -> None:
    """out[t][row] of a tile of tokens.

    weights: the first panel; panels: how many; blocks: how often 32 columns; activations: one tile of packed
    activations; out: float32, token t's rows start `out_stride` bytes after token t - 1's; add: 1 adds to
    what stands in `out` (the residual stream), 0 overwrites it; ahead: how many bytes ahead of the
    multiplication weights are asked for; turn, turns: which of how many tiles that take the same panels this
    is (`ahead.py`).
    """
    parts = kind.columns // BLOCK_COLUMNS
    multiply = _multiply_wide if parts > 1 else _multiply_narrow
    panel_bytes = blocks / parts * kind.block_bytes
    firsts = range(0, PANEL_ROWS, isa.lanes)
    in_turn = tile == isa.tiles[0]
    ask = AskInTurn(code, kind, ahead, turn, turns) if in_turn else AskAlone(code, kind, ahead)
    with code.loop(0, panels) as panel:
        start = weights + panel * panel_bytes
        sums = _zeros(code, isa, tile, firsts)
        with code.loop(0, blocks / parts) as i:
            at = start + i * kind.block_bytes
            ask.header(at)
            if kind.floats:
                ask.part(at, code.splat(I64, 0))
                _multiply_floats(code, isa, kind, at, activations + i * (tile * FLOAT_BLOCK_BYTES), sums)
            else:
                block, x = Block(code, isa, kind, at, firsts), Tile(code, isa, tile, activations)
                multiply(block, x.block(i * parts), sums, ask)
        row_at = out + panel * 64
        places = [
            (total, row_at + out_stride * t + 4 * first)
            for first in firsts
            for t, total in enumerate(sums[first])
        ]
        with code.when(add.compare("!=", 0)):
            for total, place in places:
                total.set(total.get() + code.load(total.get().type, place))
        for total, place in places:
            code.store(total.get(), place)


def _zeros(code: Code, isa: Isa, tile: int, firsts: Iterable[int]) -> Sums:
    """Sums at their beginning."""
    zeros = code.splat(vector(F32, isa.lanes), 0.0)
    return {first: [code.var(zeros) for _ in range(tile)] for first in firsts}


def _multiply_narrow(block: Block, x: Tile, sums: Sums, ask: Ask) -> None:
    """Add the products of a block of 32 columns to `sums`."""
    part = Part(block, block.code.splat(I64, 0))
    ask.part(block.at, part.index)
    (words,) = part.words_of_groups()
    dots = _dots(part, x, 0, words, sums)
    for first, scale in block.scales.items():
        for t, (total, product) in enumerate(zip(sums[first], dots[first].totals(), strict=True)):
            total.set(fma(product.to(scale.type), scale * x.about(t, SCALE_AT), total.get()))
    for first, minimum in block.minima.items():
        for t, total in enumerate(sums[first]):
            total.set(fma(minimum, x.about(t, SCALED_SUM_AT), total.get()))
    for t in _tokens_with_outlier(x):
        number, column = x.outlier(t), x.outlier_column(t)
        for first, scale in block.scales.items():
            weight, total = part.weight(first, column).to(scale.type), sums[first][t]
            total.set(fma(weight, scale * number, total.get()))


def _multiply_wide(block: Block, x: Tile, sums: Sums, ask: Ask) -> None:
    """Add the products of a block of 256 columns to `sums`."""
    code = block.code
    of_block = _zeros(code, block.isa, x.size, sums)
    with code.loop(0, block.kind.columns // BLOCK_COLUMNS) as j:
        _multiply_part(Part(block, j), x.block(j), of_block, sums, ask)
    for first, scale in block.scales.items():
        scaled = [part.get() * scale for part in of_block[first]]
        if block.kind.has_min:
            of_minima = [n.to(scale.type) for n in _sums_of_minima(block, x, first)]
            minimum = block.minima[first]
            scaled = [fma(number, minimum, part) for number, part in zip(of_minima, scaled, strict=True)]
        for t, (total, part) in enumerate(zip(sums[first], scaled, strict=True)):
            total.set(fma(part, x.about(t, SCALE_AT), total.get()))


def _multiply_part(part: Part, x: Tile, of_block: Sums, sums: Sums, ask: Ask) -> None:
    """Add the products of 32 columns of a wide block to `of_block`, whose scales are still missing, and to
    `sums` those of outliers and minima."""
    block = part.block
    ask.part(block.at, part.index)
    for number, words in enumerate(part.words_of_groups()):
        dots = _dots(part, x, number, words, sums)
        for first, totals in of_block.items():
            scale = block.group_scale(first, part.group(number)).to(totals[0].get().type)
            for total, product in zip(totals, dots[first].totals(), strict=True):
                total.set(fma(product.to(scale.type), scale, total.get()))
    for t in _tokens_with_outlier(x):
        outlier, ratio, column = x.outlier(t), x.outlier(t, OUTLIER_RATIO_AT), x.outlier_column(t)
        group = part.group((column >> 4).to(I64) if part.groups == 2 else 0)
        for first, totals in of_block.items():
            weight = part.weight(first, column).to(outlier.type)
            scale = block.group_scale(first, group).to(outlier.type)
            totals[t].set(fma(weight, scale * ratio, totals[t].get()))
            if part.kind.has_min:
                minimum = block.minima[first] * block.group_minimum(first, group).to(outlier.type)
                sums[first][t].set(fma(minimum, outlier, sums[first][t].get()))


def _sums_of_minima(block: Block, x: Tile, first: int) -> list[Value]:
    """Per token the exact sum, over a block's groups, of minimum times sum of the activations. Two groups at
    a time, whose sums of activations lie together."""
    code, kind = block.code, block.kind
    step, at = (1, HALF_SUMS_AT) if kind.group < BLOCK_COLUMNS else (2, PAIR_SUMS_AT)
    found = [code.splat(vector(I32, block.isa.lanes), 0) for _ in range(x.size)]
    for pair in range(kind.groups // 2):
        even, odd = (block.group_minimum(first, code.splat(I64, 2 * pair + k)) for k in range(2))
        minima, here = even ^ (odd << 16), x.block(step * pair)
        found = [add_pairs(block.isa, total, minima, here.about(t, at, I32)) for t, total in enumerate(found)]
        if x.size > 1:
            code.keep_order()
    return found


def _tokens_with_outlier(x: Tile) -> Iterator[int]:
    """Each token; what is written for it runs where one of its 32 numbers is an outlier."""
    code = x.code
    flags = code.load(ir.IntType(8 * x.size), x.flags, align=1)
    with code.when(flags.compare("!=", 0)):
        for t in range(x.size):
            with code.when(code.load(I8, x.flags + t).compare("!=", 0)):
                yield t


def _dots(part: Part, x: Tile, group: int, words: Sequence[int], firsts: Iterable[int]) -> dict[int, Dots]:
    """The int8 of every token's activations, times a group's words. Weights are unpacked four columns at a
    time and multiplied with all tokens at once, so that few registers hold them."""
    code, isa, kind = part.code, part.isa, part.kind
    starts = [_start(part, x, t, group) for t in range(x.size)]
    dots = {first: dots_of(isa)(isa, code, starts, kind.top, part.signed) for first in firsts}
    for number in words:
        fours = [x.four(t, number) for t in range(x.size)]
        for first, dot in dots.items():
            dot.add(part.word(first, number), fours)
        if x.size > 1:
            code.keep_order()
    return dots


def _start(part: Part, x: Tile, token: int, group: int) -> Value:
    """Where a token's integer sums begin: at minus the offset times the sum of its numbers."""
    offset = 0 if part.signed else part.kind.offset
    if offset == 0:
        return part.code.splat(vector(I32, part.isa.lanes), 0)
    if part.groups == 2:
        held, at = 32, HALVES_32_AT + 4 * group
    else:
        held, at = (128, SUM_128_AT) if offset == 128 else (8, SUM_8_AT)
    start = x.about(token, at, I32)
    if offset < held:
        return start.shift_right_signed((held // offset).bit_length() - 1)
    return start if offset == held else start * (offset // held)


def _multiply_floats(code: Code, isa: Isa, kind: PackedKind, at: Value, x: Value, sums: Sums) -> None:
    """Add the products of 32 columns of floats to `sums`, column by column: acc = fma(w, x, acc)."""
    number_bytes = kind.bits // 8
    for column in range(BLOCK_COLUMNS):
        weights_at = at + column * PANEL_ROWS * number_bytes
        weights = {first: _floats(code, isa, kind, weights_at + number_bytes * first) for first in sums}
        tile = len(sums[0])
        for t in range(tile):
            number = code.load_splat(F32, x + (t * FLOAT_BLOCK_BYTES + 4 * column), isa.lanes)
            for first, totals in sums.items():
                totals[t].set(fma(weights[first], number, totals[t].get()))
        if tile > 1:
            code.keep_order()


def _floats(code: Code, isa: Isa, kind: PackedKind, at: Value) -> Value:
    """One column's weights as float32."""
    wide = vector(F32, isa.lanes)
    if kind.floats == "f16":
        return float16(isa, code, at, isa.lanes)
    if kind.floats == "bf16":
        halves = code.load(vector(I16, isa.lanes), at).zero_extend(vector(I32, isa.lanes))
        return (halves << 16).bits(wide)
    return code.load(wide, at)
