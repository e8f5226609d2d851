"""The matrix kernel: packed weights times a tile of packed activations (layouts drawn in `layout.py`).

Written once per kind of weights and tile size. For each output number the order of the arithmetic does not
depend on the tile's size: 32 columns at a time from left to right, of these one exact integer sum for each
group of columns that share a scale, then

    acc = fma(float(sum), scale_w * scale_x, acc)        acc = fma(minimum, scale_x * sum_x, acc)

first for all groups, then for all minima, and, where one number of the 32 is an outlier, the first line again
for that number and its weight. Weights that are floats are multiplied column by column. So one token alone,
in a batch, or as a draft to be verified gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import dots_of, float16, look_up
from llama_core.backends.jit.kernels.emit import F32, I8, I16, I32, I64, Code, Value, Variable, vector
from llama_core.backends.jit.kernels.operations import fma, select
from llama_core.backends.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    BLOCK_COLUMNS,
    FLOAT_BLOCK_BYTES,
    HALVES_32_AT,
    KINDS,
    LINE_BYTES,
    OUTLIER_BYTES,
    PANEL_ROWS,
    SCALE_AT,
    SCALED_HALVES_AT,
    SCALED_SUM_AT,
    SUM_8_AT,
    SUM_128_AT,
    PackedKind,
)

WORDS = 8  # of 32 columns: four columns each
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
) -> None:
    """out[t][row] of a tile of tokens.

    weights: the first panel; panels: how many; blocks: how often 32 columns; activations: one tile of packed
    activations; out: float32, token t's rows start `out_stride` bytes after token t - 1's; add: 1 adds to
    what stands in `out` (the residual stream), 0 overwrites it; ahead: how many bytes ahead of the
    multiplication weights are asked for (`prefetch.py`).
    """
    parts = kind.columns // BLOCK_COLUMNS
    panel_bytes = blocks / parts * kind.block_bytes
    groups = range(0, PANEL_ROWS, isa.lanes)
    zeros = code.splat(vector(F32, isa.lanes), 0.0)
    with code.loop(0, panels) as panel:
        start = weights + panel * panel_bytes
        sums = {first: [code.var(zeros) for _ in range(tile)] for first in groups}
        with code.loop(0, blocks / parts) as i:
            if kind.floats:
                floats = activations + i * (tile * FLOAT_BLOCK_BYTES)
                _multiply_floats(code, isa, kind, start + i * kind.block_bytes, floats, sums, ahead)
            else:
                numbers = activations + i * (tile * parts * ACTIVATION_BLOCK_BYTES)
                block = _Block(code, isa, kind, start + i * kind.block_bytes, groups)
                _multiply_block(block, tile, numbers, sums, ahead)
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


def _multiply_block(block: _Block, tile: int, x: Value, sums: Sums, ahead: Value) -> None:
    """Add the products of a block's columns to `sums`, 32 at a time. x: the tile's activations."""
    code, isa = block.code, block.isa
    block.prefetch_header(ahead)
    parts = block.kind.columns // BLOCK_COLUMNS
    if parts == 1:
        _multiply(_Part(block, code.splat(I64, 0)), _Tile(code, isa, tile, x), sums, ahead)
        return
    with code.loop(0, parts) as j:
        here = x + j * (tile * ACTIVATION_BLOCK_BYTES)
        _multiply(_Part(block, j), _Tile(code, isa, tile, here), sums, ahead)


class _Block:
    """A block of a panel: what stands in its header before the scales of groups."""

    def __init__(self, code: Code, isa: Isa, kind: PackedKind, at: Value, firsts: Sequence[int]) -> None:
        self.code, self.isa, self.kind, self.at, self.firsts = code, isa, kind, at, firsts
        self.scales: dict[int, Value] = {}
        self.minima: dict[int, Value] = {}
        for first in firsts:
            if kind.scales == "e8m0":
                self.scales[first] = _power_of_two(self._bytes(at + first))
            else:
                self.scales[first] = float16(isa, code, at + 2 * first, isa.lanes)
                if kind.has_min:
                    self.minima[first] = float16(isa, code, at + (2 * PANEL_ROWS + 2 * first), isa.lanes)

    def _bytes(self, at: Value) -> Value:
        """Unsigned bytes from memory as int32."""
        return self.code.load(vector(I8, self.isa.lanes), at).zero_extend(vector(I32, self.isa.lanes))

    def prefetch_header(self, ahead: Value) -> None:
        for line in range(0, self.kind.header_bytes, LINE_BYTES):
            self.code.prefetch(self.at + ahead + line)

    def scale(self, first: int, group: Value) -> Value:
        """Float32 of the rows from `first` on, of one of the block's groups."""
        kind, scale = self.kind, self.scales[first]
        if kind.scales in ("f16", "e8m0"):
            return scale
        at = self._group_at(first, group, 0)
        if kind.scales == "signed":
            return scale * self.code.load(vector(I8, self.isa.lanes), at).to(scale.type)
        number = self._bytes(at)
        return scale * (number & 15 if kind.scales == "nibbles" else number).to(scale.type)

    def minimum(self, first: int, group: Value) -> Value:
        kind, minimum = self.kind, self.minima[first]
        if kind.scales == "f16":
            return minimum
        number = self._bytes(self._group_at(first, group, kind.groups if kind.scales == "unsigned" else 0))
        return minimum * (number >> 4 if kind.scales == "nibbles" else number).to(minimum.type)

    def _group_at(self, first: int, group: Value, behind: int) -> Value:
        floats = 2 * PANEL_ROWS * (1 + self.kind.has_min)
        return self.at + (group + behind) * PANEL_ROWS + (floats + first)


class _Part:
    """32 columns of a block, number `index` of it."""

    def __init__(self, block: _Block, index: Value) -> None:
        self.block, self.index = block, index
        self.code, self.isa, self.kind = block.code, block.isa, block.kind
        self.groups = BLOCK_COLUMNS // self.kind.group
        self.quants_at = block.at + index * self.kind.quant_bytes + self.kind.header_bytes
        self.signed = self.kind.offset == 128 and dots_of(self.isa).wants_signed
        self._held: dict[tuple[int, int, int], Value] = {}

    def prefetch(self, ahead: Value) -> None:
        for line in range(0, self.kind.quant_bytes, LINE_BYTES):
            self.code.prefetch(self.quants_at + ahead + line)

    def scale(self, first: int, group: int | Value) -> Value:
        return self.block.scale(first, self.index * self.groups + group)

    def minimum(self, first: int, group: int | Value) -> Value:
        return self.block.minimum(first, self.index * self.groups + group)

    def word_order(self) -> Iterator[int]:
        """Words so that what is loaded is used up at once; those of a group together."""
        if self.groups > 1:
            return iter(range(WORDS))
        width = self.kind.planes[0]
        return (word for v in range(width) for word in range(v, WORDS, width))

    def word(self, first: int, number: int) -> Value:
        """Four columns of the rows from `first` on: an int32 a row with what is multiplied, four bytes."""
        whole: Value | None = None
        at = worth = 0
        for plane, width in enumerate(self.kind.planes):
            loaded = self._load(plane, first, at + 64 * (number % width))
            shift = worth - width * (number // width)
            moved = loaded << shift if shift > 0 else loaded >> -shift if shift < 0 else loaded
            part = moved if width == 8 else moved & (0x01010101 * (((1 << width) - 1) << worth))
            # Planes share no bits.
            whole = part if whole is None else whole ^ part
            at, worth = at + 64 * width, worth + width
        assert whole is not None
        return self._level(whole)

    def _load(self, plane: int, first: int, at: int) -> Value:
        """64 bytes' share of the rows from `first` on. A higher plane is kept: all words need it."""
        key = (plane, first, at)
        if plane == 0 or key not in self._held:
            lanes, kind = self.isa.lanes, self.kind
            whole = kind.header_bytes | kind.block_bytes | kind.quant_bytes
            align = min(4 * lanes, whole & -whole)
            self._held[key] = self.code.load(
                vector(I32, lanes), self.quants_at + (at + 4 * first), align=align
            )
        return self._held[key]

    def _level(self, quants: Value) -> Value:
        if self.kind.levels is not None:
            taken = 128 if self.signed else 0
            return look_up(self.isa, quants, [level - taken for level in self.kind.levels])
        return quants ^ 0x80808080 if self.signed else quants

    def weight(self, first: int, column: Value) -> Value:
        """One column's numbers before scaling, int32, for the rows from `first` on."""
        lanes = self.isa.lanes
        number, byte = column >> 2, (column & 3) << 3
        whole = self.code.splat(vector(I32, lanes), 0)
        at = worth = 0
        for width in self.kind.planes:
            vector_at = (number & (width - 1)).to(I64) * 64 + at + 4 * first
            quad = self.code.load(vector(I32, lanes), self.quants_at + vector_at, align=4)
            shift = (number >> (width.bit_length() - 1)) * width + byte
            whole = whole ^ (((quad >> shift.splat(lanes)) & ((1 << width) - 1)) << worth)
            at, worth = at + 64 * width, worth + width
        if self.kind.levels is not None:
            whole = look_up(self.isa, whole, self.kind.levels) & 255
        return whole - self.kind.offset


class _Tile:
    """32 columns of a tile's activations."""

    def __init__(self, code: Code, isa: Isa, tile: int, at: Value) -> None:
        self.code, self.lanes, self.size = code, isa.lanes, tile
        self.numbers = [at + t * BLOCK_COLUMNS for t in range(tile)]
        self.abouts = [at + (tile * BLOCK_COLUMNS + t * ABOUT_BYTES) for t in range(tile)]
        outliers = at + tile * (BLOCK_COLUMNS + ABOUT_BYTES)
        self.outliers = [outliers + t * OUTLIER_BYTES for t in range(tile)]
        self.flags = outliers + tile * OUTLIER_BYTES

    def four(self, token: int, number: int) -> Value:
        """A word's activations in every lane."""
        return self.code.load_splat(I32, self.numbers[token] + 4 * number, self.lanes)

    def about(self, token: int, at: int, type_: Any = F32) -> Value:
        return self.code.load_splat(type_, self.abouts[token] + at, self.lanes)


def _multiply(part: _Part, tile: _Tile, sums: Sums, ahead: Value) -> None:
    """Add the products of 32 columns to `sums`."""
    part.prefetch(ahead)
    code, groups = part.code, part.groups
    words = list(part.word_order())
    for group in range(groups):
        here = words[group * WORDS // groups : (group + 1) * WORDS // groups]
        _add_dots(part, tile, group, here, sums)
    if part.kind.has_min:
        for group in range(groups):
            scaled_sum = SCALED_SUM_AT if groups == 1 else SCALED_HALVES_AT + 4 * group
            for first, totals in sums.items():
                minimum = part.minimum(first, group)
                for t, total in enumerate(totals):
                    total.set(fma(minimum, tile.about(t, scaled_sum), total.get()))
    flags = code.load(ir.IntType(8 * tile.size), tile.flags, align=1)
    with code.when(flags.compare("!=", 0)):
        for t in range(tile.size):
            with code.when(code.load(I8, tile.flags + t).compare("!=", 0)):
                _add_outlier(part, tile.outliers[t], {first: totals[t] for first, totals in sums.items()})


def _add_dots(part: _Part, tile: _Tile, group: int, words: Sequence[int], sums: Sums) -> None:
    """The int8 of every token's activations, times a group's words. Weights are unpacked four columns at a
    time and multiplied with all tokens at once, so that few registers hold them."""
    code, isa, kind = part.code, part.isa, part.kind
    starts = [_start(part, tile, t, group) for t in range(tile.size)]
    dots = {first: dots_of(isa)(isa, code, starts, kind.top, part.signed) for first in sums}
    for number in words:
        fours = [tile.four(t, number) for t in range(tile.size)]
        for first, dot in dots.items():
            dot.add(part.word(first, number), fours)
        if tile.size > 1:
            code.keep_order()
    for first, totals in sums.items():
        scale = part.scale(first, group)
        for t, (total, product) in enumerate(zip(totals, dots[first].totals(), strict=True)):
            factor = scale * tile.about(t, SCALE_AT)
            total.set(fma(product.to(scale.type), factor, total.get()))


def _start(part: _Part, tile: _Tile, token: int, group: int) -> Value:
    """Where a token's integer sums begin: at minus the offset times the sum of its numbers."""
    offset = 0 if part.signed else part.kind.offset
    if offset == 0:
        return part.code.splat(vector(I32, part.isa.lanes), 0)
    if part.groups == 2:
        held, at = 32, HALVES_32_AT + 4 * group
    else:
        held, at = (128, SUM_128_AT) if offset == 128 else (8, SUM_8_AT)
    start = tile.about(token, at, I32)
    if offset < held:
        return start.shift_right_signed((held // offset).bit_length() - 1)
    return start if offset == held else start * (offset // held)


def _add_outlier(part: _Part, outlier: Value, totals: dict[int, Variable]) -> None:
    """The outlier of a token, times its column's weights."""
    code, lanes = part.code, part.isa.lanes
    column = code.load(I32, outlier + 4)
    group = (column >> 4).to(I64) if part.groups == 2 else 0
    for first, total in totals.items():
        factor = part.scale(first, group) * code.load_splat(F32, outlier, lanes)
        total.set(fma(part.weight(first, column).to(factor.type), factor, total.get()))


def _multiply_floats(
    code: Code, isa: Isa, kind: PackedKind, at: Value, x: Value, sums: Sums, ahead: Value
) -> None:
    """Add the products of 32 columns of floats to `sums`, column by column: acc = fma(w, x, acc)."""
    for line in range(0, kind.block_bytes, LINE_BYTES):
        code.prefetch(at + ahead + line)
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


def _power_of_two(exponents: Value) -> Value:
    """E8M0: 2 ** (exponent - 128), half of what it says since the levels are doubled; subnormal below 2."""
    tiny = exponents.code.splat(exponents.type, 0x200000) << exponents
    bits = select(exponents.compare("<", 2), tiny, (exponents - 1) << 23)
    return bits.bits(vector(F32, exponents.type.count))
