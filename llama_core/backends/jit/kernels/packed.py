"""How kernels read packed weights and packed activations (layouts drawn in `layout.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.dots import dots_of, float16, look_up
from llama_core.backends.jit.kernels.emit import F32, I8, I32, I64, Code, Value, vector
from llama_core.backends.jit.kernels.operations import select
from llama_core.backends.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    BLOCK_COLUMNS,
    OUTLIER_BYTES,
    OUTLIER_COLUMN_AT,
    PANEL_ROWS,
    PackedKind,
)

WORDS = 8  # of 32 columns: four columns each


class Block:
    """A block of a panel. scales, minima: what its header begins with, as float32, for each of `firsts`, the
    first rows of `isa.lanes` rows."""

    def __init__(self, code: Code, isa: Isa, kind: PackedKind, at: Value, firsts: Sequence[int]) -> None:
        self.code, self.isa, self.kind, self.at = code, isa, kind, at
        self.scales: dict[int, Value] = {}
        self.minima: dict[int, Value] = {}
        for first in firsts:
            if kind.scales == "e8m0":
                self.scales[first] = _power_of_two(self._bytes(at + first))
            else:
                self.scales[first] = float16(isa, code, at + 2 * first, isa.lanes)
                if kind.has_min:
                    self.minima[first] = float16(isa, code, at + (2 * PANEL_ROWS + 2 * first), isa.lanes)

    def group_scale(self, first: int, group: Value) -> Value:
        """The whole number that scales a group of columns, int32, for the rows from `first` on."""
        at = self._group_at(first, group)
        if self.kind.scales == "signed":
            return self.code.load(vector(I8, self.isa.lanes), at).to(vector(I32, self.isa.lanes))
        number = self._bytes(at)
        return number & 15 if self.kind.scales == "nibbles" else number

    def group_minimum(self, first: int, group: Value) -> Value:
        """The same of a group's minimum."""
        if self.kind.scales == "nibbles":
            return self._bytes(self._group_at(first, group)) >> 4
        return self._bytes(self._group_at(first, group + self.kind.groups))

    def _group_at(self, first: int, group: Value) -> Value:
        floats = 2 * PANEL_ROWS * (1 + self.kind.has_min)
        return self.at + group * PANEL_ROWS + (floats + first)

    def _bytes(self, at: Value) -> Value:
        """Unsigned bytes from memory as int32."""
        return self.code.load(vector(I8, self.isa.lanes), at).zero_extend(vector(I32, self.isa.lanes))


class Part:
    """32 columns of a block, number `index` of it."""

    def __init__(self, block: Block, index: Value) -> None:
        self.block, self.index = block, index
        self.code, self.isa, self.kind = block.code, block.isa, block.kind
        self.groups = BLOCK_COLUMNS // self.kind.group
        self.quants_at = block.at + index * self.kind.quant_bytes + self.kind.header_bytes
        self.signed = self.kind.offset == 128 and dots_of(self.isa).wants_signed
        self._held: dict[tuple[int, int, int], Value] = {}

    def group(self, number: int | Value) -> Value:
        """The number in the block of the part's group `number`."""
        return self.index * self.groups + number

    def words_of_groups(self) -> Iterator[Sequence[int]]:
        """The words of each group, so that what is loaded is used up at once."""
        width = self.kind.planes[0]
        by_use = [word for v in range(width) for word in range(v, WORDS, width)]
        words = list(range(WORDS)) if self.groups > 1 else by_use
        size = WORDS // self.groups
        return (words[start : start + size] for start in range(0, WORDS, size))

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
            # Aligned to nothing more: where a matrix mixes kinds, panels of one begin where others end.
            whole = vector(I32, self.isa.lanes)
            self._held[key] = self.code.load(whole, self.quants_at + (at + 4 * first))
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
            quad = self.code.load(vector(I32, lanes), self.quants_at + vector_at)
            shift = (number >> (width.bit_length() - 1)) * width + byte
            whole = whole ^ (((quad >> shift.splat(lanes)) & ((1 << width) - 1)) << worth)
            at, worth = at + 64 * width, worth + width
        if self.kind.levels is not None:
            whole = look_up(self.isa, whole, self.kind.levels) & 255
        return whole - self.kind.offset


class Tile:
    """32 columns of a tile's activations, `size` tokens; `at` is where they begin."""

    def __init__(self, code: Code, isa: Isa, size: int, at: Value) -> None:
        self.code, self.isa, self.size, self._at = code, isa, size, at
        self._abouts = at + size * BLOCK_COLUMNS
        self._outliers = self._abouts + size * ABOUT_BYTES
        self.flags = self._outliers + size * OUTLIER_BYTES

    def block(self, number: Value | int) -> Tile:
        """The 32 columns that stand so many blocks behind these."""
        return Tile(self.code, self.isa, self.size, self._at + number * (self.size * ACTIVATION_BLOCK_BYTES))

    def four(self, token: int, number: int) -> Value:
        """A word's activations in every lane."""
        return self.code.load_splat(I32, self._at + (token * BLOCK_COLUMNS + 4 * number), self.isa.lanes)

    def about(self, token: int, at: int, type_: Any = F32) -> Value:
        """One of the numbers about a token's 32, in every lane."""
        return self.code.load_splat(type_, self._abouts + (token * ABOUT_BYTES + at), self.isa.lanes)

    def outlier(self, token: int, at: int = 0) -> Value:
        """A token's outlier, or what else is told of it as float32, in every lane."""
        return self.code.load_splat(F32, self._outliers + (token * OUTLIER_BYTES + at), self.isa.lanes)

    def outlier_column(self, token: int) -> Value:
        """Which of the 32 columns it stands in, int32."""
        return self.code.load(I32, self._outliers + (token * OUTLIER_BYTES + OUTLIER_COLUMN_AT))


def _power_of_two(exponents: Value) -> Value:
    """E8M0: 2 ** (exponent - 128), half of what it says since the levels are doubled; subnormal below 2."""
    tiny = exponents.code.splat(exponents.type, 0x200000) << exponents
    bits = select(exponents.compare("<", 2), tiny, (exponents - 1) << 23)
    return bits.bits(vector(F32, exponents.type.count))
