"""The attention kernels: a block of cached positions for a few query rows, and the merge of two blocks.

Attention runs over blocks of BLOCK_POSITIONS counted from position 0. Each block yields, for every query row,

    m = the largest score, l = sum of 2 ** (score - m), o = sum of 2 ** (score - m) * value

and blocks are merged from first to last (the online softmax of arXiv:1805.02867). Blocks may be computed by
different threads in any order: the result depends only on the positions, so decode, prefill and drafts
give the same bits. Scores count in powers of 2, not of e: the scale of the queries has a factor log2 e.

A block of the cache of one layer and one key-value head; hd is head_dim:

    keys:   | dimension 0 of its positions | dimension 1 | ... : number [d][p], so that sixteen scores
            are one vector and need no sum across lanes
    values: | position 0: hd numbers | position 1 | ... : number [p][d]

The numbers are float32, float16 (`kv="f16"`), bfloat16 (`kv="bf16"`) or int8 (`kv="q8"`). A block of int8
ends with the scale of each position's numbers, float32:

    | positions x hd int8, in the order above | scales |

Bfloat16 lie in pairs, which one instruction multiplies and adds: dimensions 2i and 2i + 1 of a key, positions
2i and 2i + 1 of a value:

    keys: number [d / 2][p][d % 2]    values: number [p / 2][d][p % 2]

Queries and the weights 2 ** (score - m) are then rounded to bfloat16 too, and lie in pairs where there is
that instruction. Elsewhere they are float32, and two fma give the same bits.

A query row holds hd numbers. The kernel takes R of them interleaved, number [d][r], or [d / 2][r][d % 2], so
that one pointer reaches all. A result ("partial") of a row is
| m | l | nothing, to 64 bytes | hd numbers |, float32.
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
from llama_core.backends.jit.kernels.vector import (
    LOG2_E,
    capped,
    power_of_2,
    rough_power_of_2,
)
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
SUM_AT = 4  # where l stands in a partial


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
    totals: Value,
    stride: Value,
) -> None:
    """One block of positions for some query rows.

    queries: `rows` interleaved rows; keys, values: the block; positions: how many it holds; ahead: how many
    bytes on the block lies that is to be asked for, 0 for none; limits, lows: int32 per row, it sees
    positions lows[r] <= p < limits[r] of the block, or all where limits is 0; scores: scratch for
    BLOCK_POSITIONS + 2 float32 per row; softcap: the address of a float32 c, by which scores become
    c * tanh(score / c), 0 for none; out: where the partials go; totals: those of all blocks before, with
    which the block's are merged in place as `merge` does it, or 0 for none; stride: bytes from a row's
    partial to the next one's, here and there.
    """
    # As many vectors of positions (or dimensions) at once as leave registers for their sums: each number of a
    # query (or weight) is then fetched once for several products. A power of two, which a block's positions,
    # and most heads, are a multiple of.
    width = 1 << min(BLOCK_POSITIONS // isa.lanes, max(isa.sums // rows, 2)).bit_length() - 1
    scales_at = head_dim * BLOCK_POSITIONS if kind.has_scales else None
    block = _Block(
        code, isa, kind, rows, queries, keys, values, head_dim, positions, ahead, scores, out, totals, stride
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
        cap = code.load_splat(F32, softcap) * LOG2_E
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
    totals: Value
    stride: Value

    @property
    def shares(self) -> Value:
        """Scratch behind the scores, where a block is merged: what share of its total each row keeps, then
        what share of the block it takes."""
        return self.scores + self.rows * BLOCK_POSITIONS * 4

    def share(self, which: int, row: int) -> Value:
        """The address of a row's share, of the total (0) or of the block (1)."""
        return self.shares + 4 * (which * self.rows + row)

    def rows_of(self, partials: Value) -> list[Value]:
        """Where each row's partial begins."""
        return [partials + self.stride * r for r in range(self.rows)]

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
            lanes, at = self.isa.lanes, d * 4 + PARTIAL_HEAD_BYTES
            with code.when(self.totals.compare("==", 0)):
                for r, own in sums.items():
                    for g, total in enumerate(own):
                        code.store(total.get(), self.out + self.stride * r + at + 4 * lanes * g)
            with code.when(self.totals.compare("!=", 0)):
                for r, own in sums.items():
                    keep, take = (code.load_splat(F32, self.share(k, r), lanes) for k in range(2))
                    for g, total in enumerate(own):
                        held = self.totals + self.stride * r + at + 4 * lanes * g
                        _merge_into(held, total.get(), keep, take)


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
    """Every row's scores become 2 ** (score - m), in place; m and their sum l go to the partial or into the
    total. An 8-bit value's scale is multiplied into its position's weight. Rows go side by side: each waits
    long for its own numbers."""
    code, positions, rows = block.code, block.positions, range(block.rows)
    scores = [block.scores + r * BLOCK_POSITIONS * 4 for r in rows]
    largest = [code.var(code.splat(F32x16, MASKED)) for _ in rows]
    with code.loop(0, positions, 16) as p:
        for own, most in zip(scores, largest, strict=True):
            most.set(maximum(most.get(), code.load(F32x16, own + p * 4)))
    tops = [reduce_lanes(most.get(), maximum) for most in largest]
    with code.when(block.totals.compare("!=", 0)):
        before = code.gather([code.load(F32, at) for at in block.rows_of(block.totals)])
        for k, shares in enumerate(_shares(before, code.gather(tops))):
            code.store(shares, block.share(k, 0))
    sums = [code.var(code.splat(F32x16, 0.0)) for _ in rows]
    with code.loop(0, positions, 16) as p:
        for own, top, total in zip(scores, tops, sums, strict=True):
            below = code.load(F32x16, own + p * 4) - top.splat()
            if block.kind.in_pairs:
                weight = rough_power_of_2(below, math.log2(BFLOAT16_LEAST))
            else:
                weight = power_of_2(below)
            total.set(total.get() + weight)
            if value_scales is not None:
                weight = weight * code.load(F32x16, value_scales + p * 4)
            if block.dots_pairs:
                code.store(weight.to(vector(BF16, 16)).bits(vector(I32, 8)), own + p * 2)
            else:
                code.store(round_to_bfloat16(weight) if block.kind.in_pairs else weight, own + p * 4)
    whole = [reduce_lanes(total.get(), Value.__add__) for total in sums]
    with code.when(block.totals.compare("==", 0)):
        for m, l_, at in zip(tops, whole, block.rows_of(block.out), strict=True):
            code.store(m, at)
            code.store(l_, at + SUM_AT)
    with code.when(block.totals.compare("!=", 0)):
        for r, (m, l_, at) in enumerate(zip(tops, whole, block.rows_of(block.totals), strict=True)):
            keep, take = (code.load(F32, block.share(k, r)) for k in range(2))
            code.store(maximum(code.load(F32, at), m), at)
            _merge_into(at + SUM_AT, l_, keep, take)


def _shares(m_old: Value, m_new: Value) -> tuple[Value, Value]:
    """By what a total and a block's partial are multiplied when they are merged: the one with the larger m by
    1, the other by 2 ** (the difference)."""
    apart = power_of_2(absolute(m_old - m_new) * -1.0)
    one, grows = m_old.code.splat(m_old.type, 1.0), m_new.compare(">", m_old)
    return select(grows, apart, one), select(grows, one, apart)


def _merge_into(held: Value, new: Value, keep: Value, take: Value) -> None:
    """A block's l, or some of its o, into the total's at `held`: every merge rounds in this order."""
    code = new.code
    code.store(fma(new, take, code.load(new.type, held) * keep), held)


@kernel()
def merge(code: Code, totals: Value, partials: Value, head_dim: Value, rows: Value) -> None:
    """Add a later block's partials of some rows to their totals, in place; both one after the other."""
    size = head_dim * 4 + PARTIAL_HEAD_BYTES
    with code.loop(0, rows) as row:
        total, partial = totals + row * size, partials + row * size
        m_old, m_new = code.load(F32, total), code.load(F32, partial)
        keep, take = _shares(m_old, m_new)
        code.store(maximum(m_old, m_new), total)
        _merge_into(total + SUM_AT, code.load(F32, partial + SUM_AT), keep, take)
        keep, take = keep.splat(), take.splat()
        with code.loop(0, head_dim, 16) as d:
            at = d * 4 + PARTIAL_HEAD_BYTES
            _merge_into(total + at, code.load(F32x16, partial + at), keep, take)


@kernel()
def normalize(code: Code, partial: Value, out: Value, head_dim: Value, sink: Value) -> None:
    """out = o / l. out: (head_dim,) float32. sink: the address of a float32 score that has a share of the
    softmax and no value, 0 for none."""
    total = code.var(code.load(F32, partial + SUM_AT))
    with code.when(sink.compare("!=", 0)):
        above = code.load(F32, sink) * LOG2_E - code.load(F32, partial)
        above = select(above.compare(">", 127.0), code.splat(F32, 127.0), above)
        total.set(total.get() + power_of_2(above))
    whole = total.get().splat()
    with code.loop(0, head_dim, 16) as d:
        code.store(code.load(F32x16, partial + d * 4 + PARTIAL_HEAD_BYTES) / whole, out + d * 4)
