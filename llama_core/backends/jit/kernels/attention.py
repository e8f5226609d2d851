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

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import float16
from llama_core.backends.jit.kernels.emit import F32, I8, I32, Code, F32x16, Value, Variable, vector
from llama_core.backends.jit.kernels.operations import fma, maximum, reduce_lanes, select
from llama_core.backends.jit.kernels.vector import capped, exponential
from llama_core.backends.jit.layout import (
    BLOCK_POSITIONS,
    KV_KINDS,
    LINE_BYTES,
    PARTIAL_HEAD_BYTES,
    ROW_COUNTS,
    KvKind,
)

# Low enough to vanish beside any score, and finite so that no inf - inf arises.
MASKED = -1e30


@kernel(
    kind=lambda isa: {kind.code: kind for kind in KV_KINDS.values()},
    rows=lambda isa: {rows: rows for rows in ROW_COUNTS},
)
def attend(
    code: Code,
    isa: Isa,
    kind: KvKind,
    rows: int,
    queries: Value,
    keys: Value,
    values: Value,
    head_dim: Value,
    positions: Value,
    ahead: Value,
    limits: Value,
    lows: Value,
    scores: Value,
    softcap: Value,
    out: Value,
    stride: Value,
) -> None:
    """One block of positions for some query rows.

    queries: `rows` interleaved rows; keys, values: the block; positions: how many of its 64 are held; ahead:
    how many bytes on the block lies that is to be asked for, 0 for none; limits, lows: int32 per row, it sees
    positions lows[r] <= p < limits[r] of the block, or all where limits is 0; scores: scratch for 64 float32
    per row; softcap: the address of a float32 c, by which scores become c * tanh(score / c), 0 for none; out:
    partials, `stride` bytes apart.
    """
    # As many groups of positions (or dimensions) at once as leave registers for their sums: each number of a
    # query (or weight) is then fetched once for several products, and no sum waits for the one before. A
    # power of two, which 64 positions, and most heads, are a multiple of.
    width = 1 << (min(BLOCK_POSITIONS // isa.lanes, isa.sums // rows) or 1).bit_length() - 1
    scales_at = head_dim * BLOCK_POSITIONS if kind.has_scales else None
    block = _Block(
        code, isa, kind, rows, queries, keys, values, head_dim, positions, ahead, scores, out, stride
    )
    key_scales = None if scales_at is None else keys + scales_at
    value_scales = None if scales_at is None else values + scales_at
    step = width * isa.lanes
    whole = positions / step * step
    with code.loop(0, whole, step) as p:
        block.score(width, p, key_scales)
    # `_weigh` looks at sixteen at a time.
    with code.loop(whole, (positions + 15) / 16 * 16, isa.lanes) as p:
        block.score(1, p, key_scales)
    with code.when(limits.compare("!=", 0)):
        for r in range(rows):
            limit, low = (code.load_splat(I32, at + 4 * r) for at in (limits, lows))
            _mask(code, scores + r * BLOCK_POSITIONS * 4, positions, limit, low)
    with code.when(softcap.compare("!=", 0)):
        cap = code.load_splat(F32, softcap)
        for r in range(rows):
            _cap(code, scores + r * BLOCK_POSITIONS * 4, positions, cap)
    for r in range(rows):
        _weigh(code, scores + r * BLOCK_POSITIONS * 4, positions, out + stride * r, value_scales)
    whole = head_dim / step * step
    with code.loop(0, whole, step) as d:
        block.sum_values(width, d)
    with code.loop(whole, head_dim, isa.lanes) as d:
        block.sum_values(1, d)


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

    def load(self, at: Value, width: int) -> list[Value]:
        """`width` vectors of cached numbers as float32. The same numbers of the next block are asked for."""
        code, lanes, number_bytes = self.code, self.isa.lanes, self.kind.number_bytes
        found = []
        for first in (at + lanes * number_bytes * g for g in range(width)):
            if number_bytes == 4:
                found.append(code.load(vector(F32, lanes), first, 4 * lanes))
            elif number_bytes == 2:
                found.append(float16(self.isa, code, first, lanes))
            else:
                quants = code.load(vector(I8, lanes), first, lanes)
                found.append(quants.to(vector(I32, lanes)).to(vector(F32, lanes)))
        for line in range(0, lanes * width * number_bytes // LINE_BYTES * LINE_BYTES, LINE_BYTES):
            code.prefetch(at + self.ahead + line)
        return found

    def sums(self, width: int) -> list[list[Variable]]:
        """For each row `width` vectors of zeros."""
        zeros = self.code.splat(vector(F32, self.isa.lanes), 0.0)
        return [[self.code.var(zeros) for _ in range(width)] for _ in range(self.rows)]

    def add_products(
        self, sums: list[list[Variable]], factors: Value, stride: int, numbers: list[Value]
    ) -> None:
        """sums[r] += factor r * numbers, the rows' factors `stride` bytes apart."""
        for r, own in enumerate(sums):
            factor = self.code.load_splat(F32, factors + stride * r, self.isa.lanes)
            for total, number in zip(own, numbers, strict=True):
                total.set(fma(factor, number, total.get()))

    def score(self, width: int, p: Value, key_scales: Value | None) -> None:
        """Scores of `width` vectors of positions from p on, for every row."""
        code, lanes = self.code, self.isa.lanes
        sums = self.sums(width)
        with code.loop(0, self.head_dim) as d:
            keys = self.load(self.keys + (d * BLOCK_POSITIONS + p) * self.kind.number_bytes, width)
            self.add_products(sums, self.queries + d * (4 * self.rows), 4, keys)
        for r, own in enumerate(sums):
            for g, total in enumerate(own):
                score = total.get()
                if key_scales is not None:
                    score = score * code.load(score.type, key_scales + (p * 4 + 4 * lanes * g))
                code.store(score, self.scores + (p * 4 + (r * BLOCK_POSITIONS + lanes * g) * 4))

    def sum_values(self, width: int, d: Value) -> None:
        """`width` vectors of dimensions of every row's o, from d on. Positions end exactly at `positions`:
        what lies behind may be anything, NaN too, which no weight of 0 would silence."""
        sums = self.sums(width)
        with self.code.loop(0, self.positions) as p:
            values = self.load(self.values + (p * self.head_dim + d) * self.kind.number_bytes, width)
            self.add_products(sums, self.scores + p * 4, BLOCK_POSITIONS * 4, values)
        for r, own in enumerate(sums):
            for g, total in enumerate(own):
                at = self.out + self.stride * r + d * 4 + (PARTIAL_HEAD_BYTES + 4 * self.isa.lanes * g)
                self.code.store(total.get(), at)


def _mask(code: Code, scores: Value, positions: Value, limit: Value, low: Value) -> None:
    """One row's scores, in place: MASKED where it does not see the position."""
    masked = code.splat(F32x16, MASKED)
    with code.loop(0, positions, 16) as p:
        position = code.lane_numbers(16) + p.to(I32).splat()
        score = select(position.compare("<", limit), code.load(F32x16, scores + p * 4), masked)
        code.store(select(position.compare("<", low), masked, score), scores + p * 4)


def _cap(code: Code, scores: Value, positions: Value, cap: Value) -> None:
    """One row's scores, in place; those that are masked stay so."""
    with code.loop(0, positions, 16) as p:
        score = code.load(F32x16, scores + p * 4)
        shown = score.compare(">", MASKED)
        code.store(select(shown, capped(score, cap), score), scores + p * 4)


def _weigh(code: Code, scores: Value, positions: Value, out: Value, value_scales: Value | None) -> None:
    """One row's scores become exp(score - m), in place; m and their sum l go to `out`. An 8-bit value's scale
    is multiplied into its position's weight."""
    largest = code.var(code.splat(F32x16, MASKED))
    with code.loop(0, positions, 16) as p:
        largest.set(maximum(largest.get(), code.load(F32x16, scores + p * 4)))
    top = reduce_lanes(largest.get(), maximum)
    total = code.var(code.splat(F32x16, 0.0))
    with code.loop(0, positions, 16) as p:
        weight = exponential(code.load(F32x16, scores + p * 4) - top)
        total.set(total.get() + weight)
        if value_scales is not None:
            weight = weight * code.load(F32x16, value_scales + p * 4)
        code.store(weight, scores + p * 4)
    code.store(top, out)
    code.store(reduce_lanes(total.get(), Value.__add__), out + 64)


@kernel()
def merge(code: Code, total: Value, partial: Value, head_dim: Value) -> None:
    """Add a later block's partial to `total`, in place."""
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


@kernel()
def normalize(code: Code, partial: Value, out: Value, head_dim: Value, sink: Value) -> None:
    """out = o / l. out: (head_dim,) float32. sink: the address of a float32 score that has a share of the
    softmax and no value, 0 for none."""
    total = code.var(code.load(F32x16, partial + 64))
    with code.when(sink.compare("!=", 0)):
        share = exponential(code.load_splat(F32, sink) - code.load(F32x16, partial))
        total.set(total.get() + share)
    with code.loop(0, head_dim, 16) as d:
        code.store(code.load(F32x16, partial + d * 4 + PARTIAL_HEAD_BYTES) / total.get(), out + d * 4)
