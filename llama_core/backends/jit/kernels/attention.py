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

The numbers are float32, float16 (`kv="f16"`), bfloat16 (`kv="bf16"`) or int8 (`kv="q8"`). A block of int8
ends with 64 float32, the scale of each position's numbers:

    | 64 positions x hd int8, in the order above | 64 scales |

Bfloat16 lie in pairs, which one instruction multiplies and adds: dimensions 2i and 2i + 1 of a key, positions
2i and 2i + 1 of a value:

    keys: number [d / 2][p][d % 2]    values: number [p / 2][d][p % 2]

Queries and the weights exp(score - m) are then rounded to bfloat16 too, and lie in pairs where there is that
instruction. Elsewhere they are float32, and two fma give the same bits.

A query row holds hd numbers. The kernel takes R of them interleaved, number [d][r], or [d / 2][r][d % 2], so
that one pointer reaches all. A result ("partial") of a row is | m x 16 | l x 16 | hd numbers |, float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import (
    BFLOAT16_LEAST,
    add_product,
    bfloat16_half,
    float16,
    round_to_bfloat16,
)
from llama_core.backends.jit.kernels.emit import BF16, F32, I8, I32, Code, F32x16, Value, Variable, vector
from llama_core.backends.jit.kernels.operations import absolute, fma, maximum, reduce_lanes, select
from llama_core.backends.jit.kernels.vector import capped, exponential, falling_exponential
from llama_core.backends.jit.layout import (
    BLOCK_POSITIONS,
    KV_KINDS,
    LINE_BYTES,
    PARTIAL_HEAD_BYTES,
    ROW_COUNTS,
    KvKind,
)

# The sums of some rows, by their number.
Sums = dict[int, list[Variable]]
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
    # As many vectors of positions (or dimensions) at once as leave registers for their sums: each number of a
    # query (or weight) is then fetched once for several products. A power of two, which 64 positions, and
    # most heads, are a multiple of.
    width = 1 << min(BLOCK_POSITIONS // isa.lanes, max(isa.sums // rows, 2)).bit_length() - 1
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
    _weigh(block, value_scales)
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

    @property
    def lane_bytes(self) -> int:
        """Bytes of the cached numbers that lie in one lane."""
        return self.kind.number_bytes * self.kind.at_once

    @property
    def halves(self) -> tuple[int, ...]:
        """The steps in which what lies in one lane is multiplied: of pairs the odd number comes first."""
        return (1, 0) if self.kind.in_pairs and not self.dots_pairs else (0,)

    @property
    def dots_pairs(self) -> bool:
        """Whether factors lie in pairs as well, for one instruction."""
        return self.kind.in_pairs and self.isa.pair_dots

    def load(self, at: Value, width: int, half: int, last: bool = False) -> list[Value]:
        """`width` vectors of cached numbers. last: of pairs only the first number is one."""
        code, lanes = self.code, self.isa.lanes
        found = []
        for first in (at + lanes * self.lane_bytes * g for g in range(width)):
            if self.kind.in_pairs:
                words = code.load(vector(I32, lanes), first, 4 * lanes)
                found.append(bfloat16_half(self.isa, words & 0xFFFF if last else words, half))
            elif self.kind.number_bytes == 4:
                found.append(code.load(vector(F32, lanes), first, 4 * lanes))
            elif self.kind.number_bytes == 2:
                found.append(float16(self.isa, code, first, lanes))
            else:
                quants = code.load(vector(I8, lanes), first, lanes)
                found.append(quants.to(vector(I32, lanes)).to(vector(F32, lanes)))
        return found

    def groups(self, width: int) -> Iterator[Sums]:
        """Zeros, `width` vectors for each row. So few rows at once that two vectors of each find registers: a
        number is then loaded once for several products, and no sum waits for itself."""
        most = 1 << (self.isa.sums // 2).bit_length() - 1
        zeros = self.code.splat(vector(F32, self.isa.lanes), 0.0)
        for first in range(0, self.rows, most):
            rows = range(first, min(first + most, self.rows))
            yield {r: [self.code.var(zeros) for _ in range(width)] for r in rows}

    def add_products(
        self, sums: Sums, factors: Value, stride: int, apart: int, numbers: Value, last: bool = False
    ) -> None:
        """sums[r] += factor r * the vectors at `numbers`, the rows' factors `stride` bytes apart, those of a
        row `apart`. The same numbers of the next block are asked for. last: see `load`."""
        code, lanes, width = self.code, self.isa.lanes, len(next(iter(sums.values())))
        for half in self.halves:
            held = self.load(numbers, width, half, last)
            for r, own in sums.items():
                at = factors + (stride * r + apart * half)
                if self.dots_pairs:
                    factor = bfloat16_half(self.isa, code.load_splat(I32, at, lanes), half)
                else:
                    factor = code.load_splat(F32, at, lanes)
                for total, number in zip(own, held, strict=True):
                    total.set(add_product(factor, number, total.get()))
            if half:
                code.keep_order()  # both halves at once would take more registers than there are
        for line in range(0, lanes * width * self.lane_bytes // LINE_BYTES * LINE_BYTES, LINE_BYTES):
            code.prefetch(numbers + self.ahead + line)

    def score(self, width: int, p: Value, key_scales: Value | None) -> None:
        """Scores of `width` vectors of positions from p on, for every row."""
        code, lanes, apart = self.code, self.isa.lanes, 4 * self.rows
        for sums in self.groups(width):
            with code.loop(0, self.head_dim / self.kind.at_once) as d:
                keys = self.keys + (d * BLOCK_POSITIONS + p) * self.lane_bytes
                self.add_products(sums, self.queries + d * (apart * len(self.halves)), 4, apart, keys)
            for r, own in sums.items():
                for g, total in enumerate(own):
                    score = total.get()
                    if key_scales is not None:
                        score = score * code.load(score.type, key_scales + (p * 4 + 4 * lanes * g))
                    code.store(score, self.scores + (p * 4 + (r * BLOCK_POSITIONS + lanes * g) * 4))

    def sum_values(self, width: int, d: Value) -> None:
        """`width` vectors of dimensions of every row's o, from d on. Positions end exactly at `positions`:
        what lies behind may be anything, NaN too, which no weight of 0 would silence."""
        code, whole = self.code, self.positions / self.kind.at_once

        def add(sums: Sums, p: Value, last: bool = False) -> None:
            values = self.values + (p * self.head_dim + d) * self.lane_bytes
            weights = self.scores + p * (4 * len(self.halves))
            self.add_products(sums, weights, BLOCK_POSITIONS * 4, 4, values, last)

        for sums in self.groups(width):
            with code.loop(0, whole) as p:
                add(sums, p)
            if self.kind.in_pairs:
                with code.when((self.positions & 1).compare("!=", 0)):
                    add(sums, whole, last=True)
            for r, own in sums.items():
                for g, total in enumerate(own):
                    at = self.out + self.stride * r + d * 4 + (PARTIAL_HEAD_BYTES + 4 * self.isa.lanes * g)
                    code.store(total.get(), at)


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


def _weigh(block: _Block, value_scales: Value | None) -> None:
    """Every row's scores become exp(score - m), in place; m and their sum l go to the partial. An 8-bit
    value's scale is multiplied into its position's weight. Rows go side by side: each waits long for its own
    numbers."""
    code, positions, rows = block.code, block.positions, range(block.rows)
    scores = [block.scores + r * BLOCK_POSITIONS * 4 for r in rows]
    outs = [block.out + block.stride * r for r in rows]
    largest = [code.var(code.splat(F32x16, MASKED)) for _ in rows]
    with code.loop(0, positions, 16) as p:
        for own, top in zip(scores, largest, strict=True):
            top.set(maximum(top.get(), code.load(F32x16, own + p * 4)))
    for top, out in zip(largest, outs, strict=True):
        top.set(reduce_lanes(top.get(), maximum))
        code.store(top.get(), out)
    totals = [code.var(code.splat(F32x16, 0.0)) for _ in rows]
    with code.loop(0, positions, 16) as p:
        for own, top, total in zip(scores, largest, totals, strict=True):
            below = code.load(F32x16, own + p * 4) - top.get()
            if block.kind.in_pairs:
                weight = falling_exponential(below, math.log(BFLOAT16_LEAST), 4)
            else:
                weight = falling_exponential(below)
            total.set(total.get() + weight)
            if value_scales is not None:
                weight = weight * code.load(F32x16, value_scales + p * 4)
            if block.dots_pairs:
                code.store(weight.to(vector(BF16, 16)).bits(vector(I32, 8)), own + p * 2)
            else:
                code.store(round_to_bfloat16(weight) if block.kind.in_pairs else weight, own + p * 4)
    for total, out in zip(totals, outs, strict=True):
        code.store(reduce_lanes(total.get(), Value.__add__), out + 64)


@kernel()
def merge(code: Code, totals: Value, partials: Value, head_dim: Value, rows: Value) -> None:
    """Add a later block's partials of some rows to their totals, in place; both one after the other."""
    size = head_dim * 4 + PARTIAL_HEAD_BYTES
    with code.loop(0, rows) as row:
        total, partial = totals + row * size, partials + row * size
        m_old, m_new = code.load(F32x16, total), code.load(F32x16, partial)
        # The larger one's share is whole.
        apart = falling_exponential(absolute(m_old - m_new) * -1.0)
        one, grows = code.splat(F32x16, 1.0), m_new.compare(">", m_old)
        keep, take = select(grows, apart, one), select(grows, one, apart)
        code.store(maximum(m_old, m_new), total)
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
