"""The attention kernels: a block of cached positions for a few query rows, and the merge of two blocks.

Attention runs over blocks of 64 positions counted from position 0. Each block yields, for every query row,

    m = the largest score, l = sum of exp(score - m), o = sum of exp(score - m) * value

and blocks are merged from first to last (the online softmax of arXiv:1805.02867). Blocks may be computed by
different threads in any order: the result depends only on the positions, so decode, prefill and drafts
give the same bits.

A block of the cache of one layer and one key-value head; hd is head_dim:

    keys:   | dimension 0 of the 64 positions | dimension 1 | ... : number [d][p], so that sixteen scores
            are one vector and need no sum across lanes
    values: | position 0: hd numbers | position 1 | ... : number [p][d]

The numbers are float32, float16 (`kv="f16"`) or int8 (`kv="q8"`). A block of int8 ends with 64 float32, the
scale of each position's numbers:

    | 64 positions x hd int8, in the order above | 64 scales |

A query row holds hd numbers. The kernel takes R of them interleaved, number [d][r], so that one pointer
reaches all. A result ("partial") of a row is | m x 16 | l x 16 | hd numbers |, float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llama_core.jit.dots import float16, to_float16
from llama_core.jit.emit import F32, I8, I32, Code, F32x16, I8x16, I32x16, Value, Variable
from llama_core.jit.layout import BLOCK_POSITIONS, KV_KINDS, PARTIAL_HEAD_BYTES, ROW_COUNTS, KvKind
from llama_core.jit.operations import absolute, fma, maximum, reduce_lanes, round_even, select
from llama_core.jit.variants import Isa
from llama_core.jit.vector import exponential

# Low enough to vanish beside any score, and finite so that no inf - inf arises.
MASKED = -1e30
LINE_BYTES = 64
FLOAT16_MAX = 65504.0


def attend_name(kind: KvKind, rows: int) -> str:
    return f"attend_{kind.name}_{rows}"


def write_attend(module: Any, isa: Isa, kind: KvKind, rows: int) -> None:
    """`attend(queries, keys, values, head_dim, positions, ahead, limits, lows, scores, out, out_stride)`.

    queries: `rows` interleaved rows; keys, values: the block; positions: how many of its 64 are held; ahead:
    how many bytes on the block lies that is probably next; limits, lows: int32 per row, it sees positions
    lows[r] <= p < limits[r] of the block; scores: scratch for 64 float32 per row; out: partials,
    `out_stride` bytes apart.
    """
    code = Code(module, attend_name(kind, rows), 11)
    queries, keys, values, head_dim, positions, ahead, limits, lows, scores, out, stride = code.args
    # As many groups of sixteen positions (or dimensions) at once as leave registers for 16 sums: each number
    # of a query (or weight) is then fetched once for several products, and no sum waits for the one before.
    width = min(4, 16 // rows)
    largest = [code.var(code.splat(F32x16, MASKED)) for _ in range(rows)]
    scales_at = head_dim * BLOCK_POSITIONS if kind.has_scales else None
    block = _Block(
        code, isa, kind, rows, queries, keys, values, head_dim, positions, ahead, scores, out, stride
    )
    key_scales = None if scales_at is None else keys + scales_at
    value_scales = None if scales_at is None else values + scales_at
    whole = (positions / (16 * width)) * (16 * width)
    with code.loop(0, whole, 16 * width) as p:
        block.score(width, p, key_scales, limits, lows, largest)
    with code.loop(whole, positions, 16) as p:
        block.score(1, p, key_scales, limits, lows, largest)
    for r in range(rows):
        row_scores = scores + r * BLOCK_POSITIONS * 4
        _weigh(code, row_scores, positions, largest[r].get(), out + stride * r, value_scales)
    whole = (head_dim / (16 * width)) * (16 * width)
    with code.loop(0, whole, 16 * width) as d:
        block.sum_values(width, d)
    with code.loop(whole, head_dim, 16) as d:
        block.sum_values(1, d)
    code.finish()


@dataclass(frozen=True, slots=True)
class _Block:
    """`attend` being written, with its arguments."""

    code: Code
    isa: Isa
    kind: KvKind
    rows: int
    queries: Value
    keys: Value
    values: Value
    head_dim: Value
    positions: Value
    ahead: Value
    scores: Value
    out: Value
    stride: Value

    def load(self, at: Value) -> Value:
        """Sixteen cached numbers as float32."""
        if self.kind.number_bytes == 4:
            return self.code.load(F32x16, at, 64)
        if self.kind.number_bytes == 2:
            return float16(self.isa, self.code, at)
        return self.code.load(I8x16, at, 16).to(I32x16).to(F32x16)

    def prefetch(self, first: Value, width: int) -> None:
        """Ask for the same numbers of the next block: `width` times sixteen from `first` on."""
        for at in range(0, 16 * width * self.kind.number_bytes, LINE_BYTES):
            self.code.prefetch(first + self.ahead + at)

    def score(
        self,
        width: int,
        p: Value,
        key_scales: Value | None,
        limits: Value,
        lows: Value,
        largest: list[Variable],
    ) -> None:
        """Scores of positions p .. p + 16 width for every row."""
        code, rows = self.code, self.rows
        sums = [[code.var(code.splat(F32x16, 0.0)) for _ in range(width)] for _ in range(rows)]
        number_bytes = self.kind.number_bytes
        with code.loop(0, self.head_dim) as d:
            first = self.keys + (d * BLOCK_POSITIONS + p) * number_bytes
            lanes = [self.load(first + 16 * number_bytes * g) for g in range(width)]
            self.prefetch(first, width)
            for r in range(rows):
                query = code.load_splat(F32, self.queries + (d * (4 * rows) + 4 * r))
                for g in range(width):
                    sums[r][g].set(fma(query, lanes[g], sums[r][g].get()))
        for r in range(rows):
            bounds = (code.load_splat(I32, limits + 4 * r), code.load_splat(I32, lows + 4 * r))
            for g in range(width):
                score = sums[r][g].get()
                if key_scales is not None:
                    score = score * code.load(F32x16, key_scales + (p * 4 + 64 * g))
                score = _mask(code, score, p + 16 * g, bounds)
                code.store(score, self.scores + (p * 4 + (r * BLOCK_POSITIONS + 16 * g) * 4))
                largest[r].set(maximum(largest[r].get(), score))

    def sum_values(self, width: int, d: Value) -> None:
        """Dimensions d .. d + 16 width of every row's o. Positions end exactly at `positions`: what lies
        behind may be anything, NaN too, which no weight of 0 would silence."""
        code, rows, number_bytes = self.code, self.rows, self.kind.number_bytes
        sums = [[code.var(code.splat(F32x16, 0.0)) for _ in range(width)] for _ in range(rows)]
        with code.loop(0, self.positions) as p:
            first = self.values + (p * self.head_dim + d) * number_bytes
            lanes = [self.load(first + 16 * number_bytes * g) for g in range(width)]
            self.prefetch(first, width)
            for r in range(rows):
                weight = code.load_splat(F32, self.scores + (p * 4 + r * BLOCK_POSITIONS * 4))
                for g in range(width):
                    sums[r][g].set(fma(weight, lanes[g], sums[r][g].get()))
        for r in range(rows):
            for g in range(width):
                at = self.out + self.stride * r + d * 4 + (PARTIAL_HEAD_BYTES + 64 * g)
                code.store(sums[r][g].get(), at)


def _mask(code: Code, score: Value, first: Value, bounds: tuple[Value, Value]) -> Value:
    """MASKED where a row does not see the position; lane 0 is position `first` of the block."""
    position = code.lane_numbers() + first.to(I32).splat()
    masked = code.splat(F32x16, MASKED)
    score = select(position.compare("<", bounds[0]), score, masked)
    return select(position.compare("<", bounds[1]), masked, score)


def _weigh(
    code: Code, scores: Value, positions: Value, largest: Value, out: Value, value_scales: Value | None
) -> None:
    """One row's scores become exp(score - m), in place; m and their sum l go to `out`. An 8-bit value's scale
    is multiplied into its position's weight."""
    top = reduce_lanes(largest, maximum)
    total = code.var(code.splat(F32x16, 0.0))
    with code.loop(0, positions, 16) as p:
        weight = exponential(code.load(F32x16, scores + p * 4) - top)
        total.set(total.get() + weight)
        if value_scales is not None:
            weight = weight * code.load(F32x16, value_scales + p * 4)
        code.store(weight, scores + p * 4)
    code.store(top, out)
    code.store(reduce_lanes(total.get(), Value.__add__), out + 64)


def write_attend_dispatch(module: Any) -> None:
    """`attend(kind, rows, ...)`: the kernel for a kind of cache and a number of rows, with its arguments."""
    variants = {
        16 * kind.code + rows: module.globals[attend_name(kind, rows)]
        for kind in KV_KINDS.values()
        for rows in ROW_COUNTS
    }
    code = Code(module, "attend", 13)
    kind, rows, *rest = code.args
    code.choose(kind * 16 + rows, variants, rest)
    code.finish()


def write_merge(module: Any) -> None:
    """`merge(total, partial, head_dim)`: add a later block's partial to `total`, in place."""
    code = Code(module, "merge", 3)
    total, partial, head_dim = code.args
    m_old, m_new = code.load(F32x16, total), code.load(F32x16, partial)
    top = maximum(m_old, m_new)
    keep, take = exponential(m_old - top), exponential(m_new - top)
    code.store(top, total)
    both = fma(code.load(F32x16, partial + 64), take, code.load(F32x16, total + 64) * keep)
    code.store(both, total + 64)
    with code.loop(0, head_dim, 16) as d:
        at = d * 4 + PARTIAL_HEAD_BYTES
        both = fma(code.load(F32x16, partial + at), take, code.load(F32x16, total + at) * keep)
        code.store(both, total + at)
    code.finish()


def write_normalize(module: Any) -> None:
    """`normalize(partial, out, head_dim)`: out = o / l."""
    code = Code(module, "normalize", 3)
    partial, out, head_dim = code.args
    total = code.load(F32x16, partial + 64)
    with code.loop(0, head_dim, 16) as d:
        code.store(code.load(F32x16, partial + d * 4 + PARTIAL_HEAD_BYTES) / total, out + d * 4)
    code.finish()


def write_interleave(module: Any) -> None:
    """`interleave(row, out, count, stride)`: out[i * stride] = row[i], the stride in bytes: a row of queries
    into an interleaved group, or a key into its block."""
    code = Code(module, "interleave", 4)
    row, out, count, stride = code.args
    with code.loop(0, count) as i:
        code.store(code.load(F32, row + i * 4), out + i * stride)
    code.finish()


def write_store_f16(module: Any, isa: Isa) -> None:
    """`store_f16(row, out, count, stride)`: a key or value as float16, `stride` bytes apart. What is too
    large becomes the largest there is: as infinity a single number would make every reply NaN."""
    code = Code(module, "store_f16", 4)
    row, out, count, stride = code.args
    with code.loop(0, count) as i:
        number = code.load(F32, row + i * 4)
        number = select(number.compare(">", FLOAT16_MAX), code.splat(F32, FLOAT16_MAX), number)
        number = select(number.compare("<", -FLOAT16_MAX), code.splat(F32, -FLOAT16_MAX), number)
        code.store(to_float16(isa, number), out + i * stride)
    code.finish()


def write_store_q8(module: Any) -> None:
    """`store_q8(row, out, count, stride, scale_at)`: a key or value as int8, `stride` bytes apart, and their
    scale: the largest magnitude / 127 (NaN where the row holds one).
    """
    code = Code(module, "store_q8", 5)
    row, out, count, stride, scale_at = code.args
    largest = code.var(code.splat(F32x16, 0.0))
    broken = code.var(code.splat(F32x16, 0.0))
    with code.loop(0, count, 16) as i:
        numbers = code.load(F32x16, row + i * 4)
        largest.set(maximum(absolute(numbers), largest.get()))
        broken.set(broken.get() + numbers * 0.0)
    top = reduce_lanes(largest.get(), maximum).lane(0)
    zero = code.splat(F32, 0.0)
    inverse = select(top.compare("==", 0.0), zero, code.splat(F32, 127.0) / top)
    with code.loop(0, count) as i:
        number = round_even(code.load(F32, row + i * 4) * inverse)
        code.store(number.to(I32).to(I8), out + i * stride)
    code.store(top * (1.0 / 127.0) + reduce_lanes(broken.get(), Value.__add__).lane(0), scale_at)
    code.finish()
