"""The kernels that bring a file's blocks (drawn in `llama_core.quant`) into the packed layout (`layout.py`).

Packing is a permutation of bits. A panel's sixteen rows are read side by side, block by block. Of each row 32
columns at a time are unpacked into bytes and cut into planes, and each plane's 4-byte words are stored where
the row has its place in the plane's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import I8, I16, I32, I64, Code, I8x16, Value, vector
from llama_core.backends.jit.layout import (
    BLOCK_COLUMNS,
    FP4,
    IQ4,
    IQ4K,
    KINDS,
    PANEL_ROWS,
    Q2K,
    Q3K,
    Q4,
    Q4K,
    Q4M,
    Q5,
    Q5K,
    Q5M,
    Q6K,
    Q8,
    PackedKind,
)

# Reads a field of a row's block, of which the address is given; returns the numbers to store, i8 or i16.
HeaderReader = Callable[[Code, Value], list[Value]]


@dataclass(frozen=True, slots=True)
class FilePlane:
    """Some bits of all quants of a file's block: from byte `at` on, `width` bits each. A run of so many bytes
    holds first the lowest bits of all its bytes, then the next ones."""

    at: int
    width: int
    run: int

    def read(self, code: Code, block: Value, column: int) -> Value:
        """Those of sixteen columns, as the low bits of bytes."""
        in_run = self.run * 8 // self.width
        run, within = divmod(column, in_run)
        slot, byte = divmod(within, self.run)
        loaded = code.load(I8x16, block + (self.at + run * self.run + byte))
        return (loaded >> slot * self.width) & ((1 << self.width) - 1)


@dataclass(frozen=True, slots=True)
class FifthBits:
    """Four bytes in which bit j belongs to column j."""

    at: int
    width: int = 1

    def read(self, code: Code, block: Value, column: int) -> Value:
        """1 in each lane whose column has its bit set, of 16 columns from `column` on."""
        pair = code.load(vector(I8, 2), block + (self.at + column // 8))
        masks = ir.Constant(I8x16, [ir.Constant(I8, 1 << j % 8) for j in range(16)])
        set_bits = pair.shuffle([j // 8 for j in range(16)]) & Value(code, masks)
        return select_ones(set_bits)


def select_ones(values: Value) -> Value:
    """1 where a byte is not 0."""
    zero, one = (values.code.splat(values.type, n) for n in (0, 1))
    return Value(values.code, values.code.builder.select(values.compare("!=", 0).ir, one.ir, zero.ir))


@dataclass(frozen=True, slots=True)
class FileBlock:
    """A block as it stands in a file: the fields of the packed header, and the quants' planes, lowest first.
    flip: bits of a quant that are the other way round there."""

    nbytes: int
    header: tuple[HeaderReader, ...]
    planes: tuple[FilePlane | FifthBits, ...]
    flip: int = 0

    def quants(self, code: Code, block: Value, column: int) -> Value:
        """Sixteen columns' quants as bytes."""
        whole: Value | None = None
        worth = 0
        for plane in self.planes:
            bits = plane.read(code, block, column) << worth
            whole = bits if whole is None else whole ^ bits
            worth += plane.width
        assert whole is not None
        return whole ^ self.flip if self.flip else whole


def half(at: int, sign: int = 0) -> HeaderReader:
    """A float16; sign: 0x8000 to turn it."""
    return lambda code, block: [code.load(I16, block + at, align=1) ^ sign]


def bytes_at(at: int, count: int) -> HeaderReader:
    """A reader of `count` values of 8 bits, from byte `at` of a file's block on."""
    return lambda code, block: [code.load(I8, block + (at + j)) for j in range(count)]


def _word(code: Code, at: Value) -> Value:
    return code.load(I32, at, align=1)


def _bytes_of(words: Sequence[Value], less: int = 0) -> list[Value]:
    """The bytes of some int32, each less a number."""
    split = [word.bits(vector(I8, 4)) - less for word in words]
    return [four.lane(j) for four in split for j in range(4)]


def six_bits(code: Code, block: Value) -> tuple[list[Value], list[Value]]:
    """The eight scales and the eight minima of Q4_K and Q5_K (see `k_quants.scales_and_mins`)."""
    low, mid, high = (_word(code, block + at) for at in (4, 8, 12))
    scales = (low & 0x3F3F3F3F, (high & 0x0F0F0F0F) ^ ((low >> 2) & 0x30303030))
    minima = (mid & 0x3F3F3F3F, ((high >> 4) & 0x0F0F0F0F) ^ ((mid >> 2) & 0x30303030))
    return _bytes_of(scales), _bytes_of(minima)


def scales_of_q3_k(code: Code, block: Value) -> list[Value]:
    """Sixteen 6-bit scales less 32: low halves in two planes of eight bytes, top bits in four of four."""
    first, second, top = (_word(code, block + at) for at in (96, 100, 104))
    lows = (first, second, first >> 4, second >> 4)
    return _bytes_of(
        [(low & 0x0F0F0F0F) ^ (((top >> 2 * j) & 0x03030303) << 4) for j, low in enumerate(lows)], 32
    )


def scales_of_iq4_xs(code: Code, block: Value) -> list[Value]:
    """Eight 6-bit scales less 32: neighbours share a byte, low half first, and two bits each stand before."""
    lows, tops = _word(code, block + 4), code.load(I16, block + 2, align=1).zero_extend(I32)
    numbers = [((lows >> 4 * j) & 15) ^ (((tops >> 2 * j) & 3) << 4) for j in range(8)]
    return [(number - 32).to(I8) for number in numbers]


K_HEADER = (half(0), half(2, 0x8000), lambda c, b: six_bits(c, b)[0], lambda c, b: six_bits(c, b)[1])
FILE_BLOCKS: dict[PackedKind, FileBlock] = {
    Q4: FileBlock(18, (half(0),), (FilePlane(2, 4, 16),)),
    Q4M: FileBlock(20, (half(0), half(2)), (FilePlane(4, 4, 16),)),
    Q5: FileBlock(22, (half(0),), (FilePlane(6, 4, 16), FifthBits(2))),
    Q5M: FileBlock(24, (half(0), half(2)), (FilePlane(8, 4, 16), FifthBits(4))),
    Q8: FileBlock(34, (half(0),), (FilePlane(2, 8, 32),), flip=0x80),
    Q2K: FileBlock(84, (half(80), half(82, 0x8000), bytes_at(0, 16)), (FilePlane(16, 2, 32),)),
    Q3K: FileBlock(110, (half(108), scales_of_q3_k), (FilePlane(32, 2, 32), FilePlane(0, 1, 32))),
    Q4K: FileBlock(144, K_HEADER, (FilePlane(16, 4, 32),)),
    Q5K: FileBlock(176, K_HEADER, (FilePlane(48, 4, 32), FilePlane(16, 1, 32))),
    Q6K: FileBlock(210, (half(208), bytes_at(192, 16)), (FilePlane(0, 4, 64), FilePlane(128, 2, 32))),
    IQ4: FileBlock(18, (half(0),), (FilePlane(2, 4, 16),)),
    IQ4K: FileBlock(136, (half(0), scales_of_iq4_xs), (FilePlane(8, 4, 16),)),
    FP4: FileBlock(17, (bytes_at(0, 1),), (FilePlane(1, 4, 16),)),
}


@kernel(kind=lambda isa: {kind.code: kind for kind in KINDS})
def pack(
    code: Code, kind: PackedKind, rows: Value, panels: Value, blocks: Value, out: Value, stride: Value
) -> None:
    """Whole panels of a tensor whose type is the kind's own.

    rows: address of sixteen words for each panel, the addresses of its rows in the file; blocks: of a row;
    out: where the first panel is to be, the others following `stride` bytes apart.
    """
    if kind.floats:
        _pack_floats(code, kind, rows, panels, blocks, out, stride)
        return
    file = FILE_BLOCKS[kind]
    with code.loop(0, panels) as panel, code.loop(0, blocks) as i, code.loop(0, PANEL_ROWS) as row:
        source = code.load(I64, rows + (panel * PANEL_ROWS + row) * 8) + i * file.nbytes
        target = out + panel * stride + i * kind.block_bytes
        at = 0
        for reader, (count, size) in zip(file.header, kind.fields, strict=True):
            for j, number in enumerate(reader(code, source)):
                code.store(number, target + row * size + (at + j * PANEL_ROWS * size))
            at += count * size * PANEL_ROWS
        for part in range(kind.columns // BLOCK_COLUMNS):
            first = part * BLOCK_COLUMNS
            halves = [file.quants(code, source, first + 16 * h) for h in range(2)]
            place = target + row * 4 + (kind.header_bytes + part * kind.quant_bytes)
            _store_planes(code, kind, halves, place)


def _pack_floats(
    code: Code, kind: PackedKind, rows: Value, panels: Value, blocks: Value, out: Value, stride: Value
) -> None:
    """The same of floats, which only change places; a block is 32 of them."""
    type_ = I16 if kind.bits == 16 else I32
    number_bytes = kind.bits // 8
    with code.loop(0, panels) as panel, code.loop(0, blocks) as i, code.loop(0, PANEL_ROWS) as row:
        source = code.load(I64, rows + (panel * PANEL_ROWS + row) * 8) + i * (BLOCK_COLUMNS * number_bytes)
        target = out + panel * stride + i * kind.block_bytes + row * number_bytes
        for column in range(BLOCK_COLUMNS):
            number = code.load(type_, source + column * number_bytes, align=1)
            code.store(number, target + column * PANEL_ROWS * number_bytes)


def _store_planes(code: Code, kind: PackedKind, halves: Sequence[Value], place: Value) -> None:
    """32 quants of a row, in two times sixteen bytes, into their planes at `place`."""
    at = worth = 0
    for width in kind.planes:
        low, high = ((h >> worth) & ((1 << width) - 1) for h in halves)
        if width == 8:
            words = [h.bits(vector(I32, 4)).lane(k) for h in (low, high) for k in range(4)]
        else:
            # Word k with word k + 4 above it; then words are laid together until the byte is full.
            four = (low ^ (high << 4)).bits(vector(I32, 4))
            words = [four.lane(k) for k in range(4)]
            room = 4
            while room > width:
                room //= 2
                half_way = len(words) // 2
                pairs = zip(words[:half_way], words[half_way:], strict=True)
                words = [one ^ (other << room) for one, other in pairs]
        for v, word in enumerate(words):
            code.store(word, place + (at + 64 * v))
        at, worth = at + 64 * width, worth + width
