"""How packed weights and packed activations lie in memory.

Weights. A matrix (rows, columns) is cut into panels of 16 rows and blocks of 32 columns (both padded with
zeros). A panel's blocks follow each other, and panels follow each other, so a matrix is one stream that
is read once from front to back, in the order in which a token needs it:

    panel 0: | block 0 | block 1 | ... | block n-1 |    panel 1: | block 0 | ...

    one 4-bit block (320 with minima, 288 without)
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

    one 8-bit block (544): 16 scales, then quants 0 .. 7 of 64 bytes,
    a byte is one column: quants k holds columns 4k .. 4k + 3 of sixteen rows

Quants are unsigned, as `vpdpbusd` wants them. Without minima the number is scale * (quant - offset), with an
offset of 8 or 128; with minima it is scale * quant + minimum.

Activations. Each block of 32 numbers becomes int8 with a scale of max|x| / 127. Where one number towers
over its row, that scale leaves little of its 31 neighbours, and such blocks (one or two of ten) make most of
the error of int8 activations. There the towering number stands apart, as the float32 that it is, and the
scale is that of the others.

T tokens that are multiplied together form a tile; block j of all of them lies together, so that the kernel
addresses everything from one pointer:

    block j: | 32 int8 of token 0 | ... of token T-1 | 16 bytes about token 0 | ... about token T-1 |
             | 16 bytes: what token 0 has apart | ... token T-1 | T bytes: 1 where it has | 7 T unused |
    about: scale (f32), scale * sum (f32), -8 * sum (i32), -128 * sum (i32); sum is of the 32 int8
    apart: the number (f32), where its column's weights are: 64 k (i32) for 8-bit ones, quants k, and by how
           many bits to shift (i32) them for 4-bit, for 8-bit weights; all zeros where there is none

`scale * sum` multiplies the minima (and has the number apart added to it). The two after it are where the
integer accumulators start, which subtracts the offset without an instruction. 4-bit weights of column c
stand in the same quants as column c + 16, so that there k is taken modulo 4.
"""

from __future__ import annotations

from dataclasses import dataclass

PANEL_ROWS = 16
# Attention runs over blocks of so many positions; drawn in `attention.py`, like the next two.
BLOCK_POSITIONS = 64
PARTIAL_HEAD_BYTES = 128
ROW_COUNTS = (8, 4, 3, 2, 1)  # how many query rows a kernel takes together
BLOCK_COLUMNS = 32
ABOUT_BYTES = 16
APART_BYTES = 16
# One token's share of a block; the last eight bytes are for its flag.
ACTIVATION_BLOCK_BYTES = BLOCK_COLUMNS + ABOUT_BYTES + APART_BYTES + 8


@dataclass(frozen=True, slots=True)
class PackedKind:
    """One way a packed matrix stores its numbers. `code` is what the compiled step switches on."""

    code: int
    bits: int
    has_min: bool

    @property
    def name(self) -> str:
        return f"q{self.bits}{'m' if self.has_min else ''}"

    @property
    def offset(self) -> int:
        """What to take off a quant; 0 where minima do it."""
        return 0 if self.has_min else 1 << (self.bits - 1)

    @property
    def header_bytes(self) -> int:
        return 2 * PANEL_ROWS * (1 + self.has_min)

    @property
    def quant_bytes(self) -> int:
        return PANEL_ROWS * BLOCK_COLUMNS * self.bits // 8

    @property
    def block_bytes(self) -> int:
        return self.header_bytes + self.quant_bytes


Q4M = PackedKind(0, 4, has_min=True)
Q4 = PackedKind(1, 4, has_min=False)
Q8 = PackedKind(2, 8, has_min=False)
KINDS = (Q4M, Q4, Q8)


@dataclass(frozen=True, slots=True)
class KvKind:
    """One way the cache stores its numbers (drawn in `attention.py`). `code` is what `attend` switches on."""

    name: str
    code: int
    number_bytes: int
    has_scales: bool = False

    def block_bytes(self, head_dim: int) -> int:
        """The keys (or values) of BLOCK_POSITIONS positions of one head."""
        return BLOCK_POSITIONS * (self.number_bytes * head_dim + 4 * self.has_scales)


KV_KINDS = {kind.name: kind for kind in (KvKind("f32", 0, 4), KvKind("f16", 1, 2), KvKind("q8", 2, 1, True))}


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def n_panels(rows: int) -> int:
    return ceil_div(rows, PANEL_ROWS)


def n_blocks(columns: int) -> int:
    return ceil_div(columns, BLOCK_COLUMNS)


def packed_bytes(kind: PackedKind, rows: int, columns: int) -> int:
    return n_panels(rows) * n_blocks(columns) * kind.block_bytes
