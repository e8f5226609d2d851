"""The attention kernels: a block of cached positions for a few query rows, and the merge of two blocks.

Attention runs over blocks of 64 positions counted from position 0. Each block yields, for every query row,

    m = the largest score, l = sum of exp(score - m), o = sum of exp(score - m) * value

and blocks are merged from first to last (the online softmax of arXiv:1805.02867). Blocks may be computed by
different threads in any order: the result depends only on the positions, so decode, prefill and drafts
give the same bits.

The cache of one layer and one key-value head, in float32; hd is head_dim:

    keys:   | 16 positions x hd | ... : number [d][p % 16] of group p // 16, so that sixteen scores are
            one vector and need no sum across lanes
    values: | position 0: hd numbers | position 1 | ...

With an 8-bit cache (`kv="q8"`) the same numbers are int8, and a block of 64 positions ends with 64 float32,
the scale of each position's numbers:

    | 64 positions x hd int8, in the order above | 64 scales |

A query row holds hd numbers. The kernel takes R of them interleaved, number [d][r], so that one pointer
reaches all. A result ("partial") of a row is | m x 16 | l x 16 | hd numbers |, float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llama_core.jit.emit import F32, I8, I32, Code, F32x16, I8x16, I32x16, Value, Variable
from llama_core.jit.layout import BLOCK_POSITIONS, PARTIAL_HEAD_BYTES, ROW_COUNTS
from llama_core.jit.operations import absolute, fma, maximum, reduce_lanes, round_even, select
from llama_core.jit.vector import exponential

# Low enough to vanish beside any score, and finite so that no inf - inf arises.
MASKED = -1e30


def attend_name(rows: int, q8: bool) -> str:
    return f"attend_q8_{rows}" if q8 else f"attend_{rows}"


def write_attend(module: Any, rows: int, q8: bool) -> None:
    """`attend(queries, keys, values, head_dim, positions, limits, lows, scores, out, out_stride)`.

    queries: `rows` interleaved rows; keys, values: the block's first position; positions: how many of the
    block's 64 are held; limits, lows: int32 per row, it sees positions lows[r] <= p < limits[r] of the
    block; scores: scratch for 64 float32 per row; out: partials, `out_stride` bytes apart.
    """
    code = Code(module, attend_name(rows, q8), 10)
    queries, keys, values, head_dim, positions, limits, lows, scores, out, stride = code.args
    # As many groups of sixteen positions (or dimensions) at once as leave registers for 16 sums: each number
    # of a query (or weight) is then fetched once for several products, and no sum waits for the one before.
    width = min(4, 16 // rows)
    largest = [code.var(code.splat(F32x16, MASKED)) for _ in range(rows)]
    # A full block is followed by another, which the same thread probably takes next.
    full = positions.compare("==", BLOCK_POSITIONS)
    number_bytes = 1 if q8 else 4
    scales_at = head_dim * BLOCK_POSITIONS
    block_bytes = scales_at + 4 * BLOCK_POSITIONS if q8 else scales_at * 4
    ahead = select(full, block_bytes, code.number(0))
    block = _Block(
        code, rows, queries, keys, values, head_dim, positions, scores, out, stride, ahead, number_bytes
    )
    whole = (positions / (16 * width)) * (16 * width)
    with code.loop(0, whole, 16 * width) as p:
        block.score(width, p, keys + scales_at if q8 else None, limits, lows, largest)
    with code.loop(whole, positions, 16) as p:
        block.score(1, p, keys + scales_at if q8 else None, limits, lows, largest)
    for r in range(rows):
        row_scores = scores + r * BLOCK_POSITIONS * 4
        value_scales = values + scales_at if q8 else None
        _weigh(code, row_scores, positions, largest[r].get(), out + stride * r, value_scales)
    whole = (head_dim / (16 * width)) * (16 * width)
    with code.loop(0, whole, 16 * width) as d:
        block.sum_values(width, d)
    with code.loop(whole, head_dim, 16) as d:
        block.sum_values(1, d)
    code.finish()


@dataclass(frozen=True, slots=True)
class _Block:
    """`attend` being written: its arguments, and how far ahead to prefetch in bytes."""

    code: Code
    rows: int
    queries: Value
    keys: Value
    values: Value
    head_dim: Value
    positions: Value
    scores: Value
    out: Value
    stride: Value
    ahead: Value
    number_bytes: int

    def load(self, at: Value) -> Value:
        """Sixteen cached numbers as float32."""
        if self.number_bytes == 4:
            return self.code.load(F32x16, at, 64)
        return self.code.load(I8x16, at, 16).to(I32x16).to(F32x16)

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
        sixteen = 16 * self.number_bytes
        first = self.keys + p * (self.head_dim * self.number_bytes)
        with code.loop(0, self.head_dim) as d:
            key_at = [first + self.head_dim * (sixteen * g) + d * sixteen for g in range(width)]
            lanes = [self.load(at) for at in key_at]
            for at in key_at:
                code.prefetch(at + self.ahead)
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
        code, rows = self.code, self.rows
        sums = [[code.var(code.splat(F32x16, 0.0)) for _ in range(width)] for _ in range(rows)]
        with code.loop(0, self.positions) as p:
            first = self.values + (p * self.head_dim + d) * self.number_bytes
            value_at = [first + 16 * self.number_bytes * g for g in range(width)]
            lanes = [self.load(at) for at in value_at]
            for at in value_at:
                code.prefetch(at + self.ahead)
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
    """`attend(q8, rows, ...)`: the kernel for a type of cache and a number of rows, with its arguments."""
    variants = {16 * q8 + r: module.globals[attend_name(r, bool(q8))] for q8 in (0, 1) for r in ROW_COUNTS}
    code = Code(module, "attend", 12)
    q8, rows, *rest = code.args
    code.choose(q8 * 16 + rows, variants, rest)
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
    into an interleaved group, or a key into its group of sixteen positions."""
    code = Code(module, "interleave", 4)
    row, out, count, stride = code.args
    with code.loop(0, count) as i:
        code.store(code.load(F32, row + i * 4), out + i * stride)
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
