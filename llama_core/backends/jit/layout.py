"""How packed weights and packed activations lie in memory.

Weights. A matrix (rows, columns) is cut into panels of 16 rows and blocks of 32 or 256 columns (both padded
with zeros). A panel's blocks follow each other, and panels follow each other, so a matrix is one stream that
is read once from front to back, in the order in which a token needs it:

    panel 0: | block 0 | block 1 | ... | block n-1 |    panel 1: | block 0 | ...

    a block of Q4_1 (320 bytes, 288 without minima)
    +----------------+----------------+-----------+-----------+-----------+-----------+
    | 16 scales, f16 | 16 minima, f16 | quants 0  | quants 1  | quants 2  | quants 3  |
    +----------------+----------------+-----------+-----------+-----------+-----------+
    quants k, 64 bytes: row 0        row 1        ...  row 15
                        b0 b1 b2 b3  b0 b1 b2 b3       b0 b1 b2 b3
    byte b_c of a row:  low half = column 4k + c, high half = column 16 + 4k + c

So one 64-byte load and one `and` give four consecutive columns of sixteen rows, and one `vpdpbusd` with the
four activations of those columns in every lane adds sixteen dot products of length four to sixteen
accumulators, one per row: no sum across lanes is ever needed. GGUF's own Q4 blocks pair column i with
column 16 + i in the same way, so packing only moves 4-byte words and never touches a weight.

Quants of other widths are cut into planes of 8, 4, 2 or 1 bits, the lowest bits first. The four columns
4j .. 4j + 3 of 32 are word j. A plane of width w is w vectors of 64 bytes. Word j is in vector j mod w, in
the bits from w (j div w) on of each byte: for w = 4 that is the drawing above.

    quants   2 bits   3        4       5        6        8
    planes   2        2 and 1  4       4 and 1  4 and 2  8

A K-quant's block of 256 columns has one float16 for all its scales (and one for all its minima), and then
small whole numbers for groups of 16 or 32 columns:

    | 16 d, f16 | 16 -dmin, f16 | 16 bytes for each group: scales | the same: minima | quants of columns
    0 .. 31 | ... | quants of columns 224 .. 255 |

Weights that a file keeps as floats stay floats, without a header: 16 numbers of column 0, 16 of column 1, ...
of 32 columns. They are multiplied with float32 activations.

Quants are unsigned, as `vpdpbusd` wants them. A number is scale * (quant - offset), or with minima scale *
quant + minimum; scale is d times the group's whole number, minimum is -dmin times its own. With `levels` the
quant is the index of one of sixteen levels, from which the offset is taken. Nothing of a file's blocks is
lost, and what is multiplied is exactly the file's numbers.

Activations. Each block of 32 numbers becomes int8 with a scale of max|x| / 127. Where one number is an
outlier of its row, that scale leaves little of its 31 neighbours, and such blocks (one or two of ten) make
most of the error of int8 activations. There the outlier is kept beside them in float32, and the scale is that
of the others. Where the weights have blocks of 256 columns, eight blocks share their scale: the kernel then
multiplies by it once, not eight times.

T tokens that are multiplied together form a tile; block j of all of them lies together, so that the kernel
addresses everything from one pointer:

    block j: | 32 int8 of token 0 | ... of token T-1 | 32 bytes about token 0 | ... about token T-1 |
             | 12 bytes: the outlier of token 0 | ... of T-1 | T bytes: 1 where there is one | 3 T unused |
    about: scale (f32), scale * sum (f32), -8 * sum (i32), -128 * sum (i32); sum is of the 32 int8;
           -32 * sum of either half (i32); sum of either half (i16); of an even block: its sum and that of
           the next (i16)
    outlier: the number (f32), its column in the block (i32), the number / scale (f32); 0, -1, 0 for none

`scale * sum` multiplies the minima (and has the outlier added to it). The whole numbers after it are
where the integer accumulators start, which subtracts the offset without an instruction. The sums of 16 bits
multiply the minima of two groups at a time, where those are whole numbers.

For floats a block of a tile holds 32 float32 of token 0, ... of token T-1. A matrix of both sorts has both:
all of a tile's blocks of int8, then all its blocks of float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PANEL_ROWS = 16
LINE_BYTES = 64  # of a cache line
# Attention runs over blocks of so many positions; drawn in `attention.py`, like the next two. With half as
# many, merging takes twice as long: 5 % of the kernel's time.
BLOCK_POSITIONS = 128
PARTIAL_HEAD_BYTES = 64
FACTORS_BYTES = 16  # of a position and a memory's head (see `kernels/recurrent.py`)
ROW_COUNTS = (8, 4, 3, 2, 1)  # how many query rows a kernel takes together
BLOCK_COLUMNS = 32
ABOUT_BYTES = 32
OUTLIER_BYTES = 12
OUTLIER_COLUMN_AT, OUTLIER_RATIO_AT = 4, 8
# One token's share of a block; the last four bytes are for its flag.
ACTIVATION_BLOCK_BYTES = BLOCK_COLUMNS + ABOUT_BYTES + OUTLIER_BYTES + 4
FLOAT_BLOCK_BYTES = 4 * BLOCK_COLUMNS  # the same of float32
# Where things stand in the bytes about a token.
SCALE_AT, SCALED_SUM_AT, SUM_8_AT, SUM_128_AT = 0, 4, 8, 12
HALVES_32_AT, HALF_SUMS_AT, PAIR_SUMS_AT = 16, 24, 28

# How the scales of a block are kept: a float16 or a power of two (E8M0) for its 32 columns; or whole numbers
# that a float16 scales: signed bytes, unsigned bytes with the minima apart, or halves of a byte, minima high.
ScaleForm = Literal["f16", "e8m0", "signed", "unsigned", "nibbles"]
FloatForm = Literal["f16", "bf16", "f32"]


@dataclass(frozen=True, slots=True)
class PackedKind:
    """One way a packed matrix stores its numbers. `code` is what the compiled step switches on.

    planes: the widths into which quants are cut. columns: of a block; group: of those that share a scale.
    offset: what to take off a quant, or off its level; 0 where minima do it.
    """

    code: int
    name: str
    planes: tuple[int, ...]
    columns: int = BLOCK_COLUMNS
    group: int = BLOCK_COLUMNS
    scales: ScaleForm = "f16"
    has_min: bool = False
    offset: int = 0
    levels: tuple[int, ...] | None = None
    floats: FloatForm | None = None

    @property
    def bits(self) -> int:
        """How many bits a quant has, all planes together."""
        return sum(self.planes)

    @property
    def top(self) -> int:
        """The largest number that is multiplied."""
        return max(self.levels) if self.levels else (1 << self.bits) - 1

    @property
    def groups(self) -> int:
        """How many groups of columns with a scale of their own a block has."""
        return self.columns // self.group

    @property
    def fields(self) -> tuple[tuple[int, int], ...]:
        """The header's parts: how many numbers a row has there, and how many bytes each."""
        if self.floats:
            return ()
        if self.scales == "e8m0":
            return ((1, 1),)
        floats = ((1, 2),) * (1 + self.has_min)
        if self.scales == "f16":
            return floats
        return (*floats, *((self.groups, 1),) * (2 if self.scales == "unsigned" else 1))

    @property
    def header_bytes(self) -> int:
        """Bytes before the quants of a block: each field for every row of the panel."""
        return PANEL_ROWS * sum(count * size for count, size in self.fields)

    @property
    def quant_bytes(self) -> int:
        """Bytes of the quants of 32 columns of a whole panel."""
        return PANEL_ROWS * BLOCK_COLUMNS * self.bits // 8

    @property
    def block_bytes(self) -> int:
        """Bytes of `columns` columns of a whole panel, header and quants."""
        return self.header_bytes + self.columns // BLOCK_COLUMNS * self.quant_bytes


IQ4_LEVELS = (1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241)  # plus 128
FP4_LEVELS = (16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4)  # E2M1 doubled, plus 16

Q4M = PackedKind(0, "q4m", (4,), has_min=True)
Q4 = PackedKind(1, "q4", (4,), offset=8)
Q8 = PackedKind(2, "q8", (8,), offset=128)
Q5M = PackedKind(3, "q5m", (4, 1), has_min=True)
Q5 = PackedKind(4, "q5", (4, 1), offset=16)
Q2K = PackedKind(5, "q2k", (2,), 256, 16, "nibbles", has_min=True)
Q3K = PackedKind(6, "q3k", (2, 1), 256, 16, "signed", offset=4)
Q4K = PackedKind(7, "q4k", (4,), 256, 32, "unsigned", has_min=True)
Q5K = PackedKind(8, "q5k", (4, 1), 256, 32, "unsigned", has_min=True)
Q6K = PackedKind(9, "q6k", (4, 2), 256, 16, "signed", offset=32)
IQ4 = PackedKind(10, "iq4", (4,), offset=128, levels=IQ4_LEVELS)
IQ4K = PackedKind(11, "iq4k", (4,), 256, 32, "signed", offset=128, levels=IQ4_LEVELS)
FP4 = PackedKind(12, "fp4", (4,), scales="e8m0", offset=16, levels=FP4_LEVELS)
INTEGER_KINDS = (Q4M, Q4, Q8, Q5M, Q5, Q2K, Q3K, Q4K, Q5K, Q6K, IQ4, IQ4K, FP4)
FIRST_FLOAT = 16  # codes from here on are of floats
F16 = PackedKind(16, "f16", (16,), floats="f16")
BF16 = PackedKind(17, "bf16", (16,), floats="bf16")
F32 = PackedKind(18, "f32", (32,), floats="f32")
FLOAT_KINDS = (F16, BF16, F32)
KINDS = INTEGER_KINDS + FLOAT_KINDS
# Kernels are built for the first of these that holds all kinds of a model: fewer kinds are built sooner. The
# first is what small models come in, the second what a Q4_K_M, Q5_K_M or Q6_K file holds, the third such a
# file with experts, whose router is float32, and one whose experts are MXFP4.
KERNEL_SETS = {
    "simple": (Q4M, Q4, Q8),
    "k": (Q4M, Q4, Q8, Q5, Q4K, Q5K, Q6K),
    "experts": (Q4M, Q4, Q8, Q5, Q4K, Q5K, Q6K, FP4, F32),
    "all": KINDS,
}


@dataclass(frozen=True, slots=True)
class KvKind:
    """One way the cache stores its numbers (drawn in `attention.py`). `code` is what `attend` switches on."""

    name: str
    code: int
    number_bytes: int
    has_scales: bool = False
    in_pairs: bool = False

    @property
    def at_once(self) -> int:
        """How many numbers lie in one lane and are multiplied by one instruction."""
        return 1 + self.in_pairs

    def block_bytes(self, head_dim: int) -> int:
        """The keys (or values) of BLOCK_POSITIONS positions of one head."""
        return BLOCK_POSITIONS * self.head_bytes(head_dim)

    def head_bytes(self, head_dim: int) -> int:
        """A key (or value) of one head."""
        return self.number_bytes * head_dim + 4 * self.has_scales


_KV_KINDS = (
    KvKind("f32", 0, 4),
    KvKind("f16", 1, 2),
    KvKind("bf16", 3, 2, in_pairs=True),
    KvKind("q8", 2, 1, has_scales=True),
)
KV_KINDS = {kind.name: kind for kind in _KV_KINDS}


def kernel_set(kinds: Iterable[PackedKind]) -> str:
    """The name of the smallest set of kernels that multiplies all of `kinds`."""
    wanted = set(kinds)
    return next(name for name, held in KERNEL_SETS.items() if wanted <= set(held))


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def n_panels(rows: int) -> int:
    """Panels of PANEL_ROWS rows, the last one perhaps padded."""
    return ceil_div(rows, PANEL_ROWS)


def n_blocks(columns: int) -> int:
    """Blocks of activations, 32 columns each."""
    return ceil_div(columns, BLOCK_COLUMNS)


def packed_bytes(kind: PackedKind, rows: int, columns: int) -> int:
    """Bytes of a (rows, columns) matrix, its padding included."""
    return n_panels(rows) * ceil_div(columns, kind.columns) * kind.block_bytes
