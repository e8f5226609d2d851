"""A row made ready for the matrix kernel: packed activations (drawn in `layout.py`)."""

from __future__ import annotations

from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import (
    F32,
    I8,
    I16,
    I32,
    I64,
    Code,
    F32x16,
    I8x16,
    I32x16,
    Value,
    Variable,
)
from llama_core.backends.jit.kernels.operations import absolute, maximum, reduce_lanes, round_even, select
from llama_core.backends.jit.kernels.vector import mean_square
from llama_core.backends.jit.layout import (
    ABOUT_BYTES,
    ACTIVATION_BLOCK_BYTES,
    BLOCK_COLUMNS,
    FLOAT_BLOCK_BYTES,
    HALF_SUMS_AT,
    HALVES_32_AT,
    OUTLIER_BYTES,
    OUTLIER_COLUMN_AT,
    OUTLIER_RATIO_AT,
    PAIR_SUMS_AT,
    SCALE_AT,
    SCALED_SUM_AT,
    SUM_8_AT,
    SUM_128_AT,
)


@kernel()
def quantize(
    code: Code, x: Value, padded: Value, out: Value, tile: Value, token: Value, numbers: Value, span: Value
) -> None:
    """A row, (padded,) float32, as the activations of token number `token` in a tile of `tile` tokens.

    The layout is drawn in `layout.py`. A NaN or infinity anywhere in the row makes every scale NaN, so that
    it reaches the logits, where it is found. numbers: three float32: 1 / n, one that is not used, and how
    many times the row's mean square the square of a block's largest number must be for it to be an outlier.
    span: how many columns share a scale, 32 or 256; `padded` is a multiple of it.
    """
    mean = mean_square(code, x, padded, numbers).lane(0)
    threshold = mean * code.load(F32, numbers + 8)
    nan_if_broken = mean * 0.0
    with code.loop(0, padded / span) as group:
        start = group * span
        largest = code.var(code.splat(F32, 0.0))
        with code.loop(start, start + span, BLOCK_COLUMNS) as i:
            place = _Place(code, out, i, tile, token)
            largest.set(maximum(largest.get(), _set_apart(code, x + i * 4, place, threshold)))
        # Where all but outliers are zeros, any scale will do that is not zero.
        top = select(largest.get().compare("==", 0.0), code.splat(F32, 127.0), largest.get())
        inverse = code.splat(F32, 127.0) / top
        scale = top * (1.0 / 127.0) + nan_if_broken
        with code.loop(start, start + span, BLOCK_COLUMNS) as i:
            _quantize_block(code, x + i * 4, _Place(code, out, i, tile, token), inverse, scale)


class _Place:
    """Where a token's share of the block that starts with column `i` lies."""

    def __init__(self, code: Code, out: Value, i: Value, tile: Value, token: Value) -> None:
        block = out + (i >> 5) * (tile * ACTIVATION_BLOCK_BYTES)
        self.numbers = block + token * BLOCK_COLUMNS
        self.about = block + tile * BLOCK_COLUMNS + token * ABOUT_BYTES
        self.outlier = block + tile * (BLOCK_COLUMNS + ABOUT_BYTES) + token * OUTLIER_BYTES
        self.flag = block + tile * (BLOCK_COLUMNS + ABOUT_BYTES + OUTLIER_BYTES) + token
        odd = (i >> 5) & 1
        self.in_pair = self.about - odd * (tile * ACTIVATION_BLOCK_BYTES - 2)


def _set_apart(code: Code, x: Value, place: _Place, threshold: Value) -> Value:
    """Note the outlier of the 32 numbers at `x`; returns the largest magnitude of the others."""
    halves = [code.var(code.load(F32x16, x + 64 * k)) for k in range(2)]
    largest = code.var(_largest(halves))
    code.store(code.splat(F32, 0.0), place.outlier)
    code.store(code.splat(I32, -1), place.outlier + OUTLIER_COLUMN_AT)
    code.store(code.splat(I8, 0), place.flag)
    with code.when((largest.get() * largest.get()).compare(">", threshold)):
        column = _take_out(code, halves, largest.get())
        largest.set(_largest(halves))
        code.store(code.load(F32, x + column.to(I64) * 4), place.outlier)
        code.store(column, place.outlier + OUTLIER_COLUMN_AT)
        code.store(code.splat(I8, 1), place.flag)
    return largest.get()


def _quantize_block(code: Code, x: Value, place: _Place, inverse: Value, scale: Value) -> None:
    """The 32 numbers at `x`, but for the outlier, as int8, and what is told about them."""
    halves = [code.var(code.load(F32x16, x + 64 * k)) for k in range(2)]
    outlier = code.load(F32, place.outlier)
    _clear_column(code, halves, code.load(I32, place.outlier + OUTLIER_COLUMN_AT))
    code.store(outlier * inverse, place.outlier + OUTLIER_RATIO_AT)
    quants = [round_even(h.get() * inverse.splat()).to(I32x16) for h in halves]
    for k, q in enumerate(quants):
        code.store(q.to(I8x16), place.numbers + 16 * k)
    sums = [reduce_lanes(q, Value.__add__) for q in quants]
    total = sums[0] + sums[1]
    code.store(scale, place.about + SCALE_AT)
    code.store(scale * total.to(F32) + outlier, place.about + SCALED_SUM_AT)
    code.store(total * -8, place.about + SUM_8_AT)
    code.store(total * -128, place.about + SUM_128_AT)
    code.store(total.to(I16), place.in_pair + PAIR_SUMS_AT)
    for k, part in enumerate(sums):
        code.store(part * -32, place.about + (HALVES_32_AT + 4 * k))
        code.store(part.to(I16), place.about + (HALF_SUMS_AT + 2 * k))


def _largest(halves: list[Variable]) -> Value:
    """The largest magnitude of a block."""
    return reduce_lanes(maximum(*(absolute(h.get()) for h in halves)), maximum)


def _take_out(code: Code, halves: list[Variable], largest: Value) -> Value:
    """Set the block's last number of magnitude `largest` to zero; returns its column, int32."""
    columns = [code.lane_numbers(16) + 16 * k for k in range(2)]
    found = [
        select(absolute(h.get()).compare("==", largest.splat()), c, c * 0)
        for h, c in zip(halves, columns, strict=True)
    ]
    column = reduce_lanes(maximum(*found), maximum)
    _clear_column(code, halves, column)
    return column


def _clear_column(code: Code, halves: list[Variable], column: Value) -> None:
    """Set the block's number at `column` to zero."""
    for k, half in enumerate(halves):
        here = code.lane_numbers(16) + 16 * k
        half.set(select(here.compare("==", column.splat()), code.splat(F32x16, 0.0), half.get()))


@kernel()
def place_floats(code: Code, x: Value, padded: Value, out: Value, tile: Value, token: Value) -> None:
    """A row as one token's float32 activations in a tile (drawn in `layout.py`). x: (padded,) float32."""
    with code.loop(0, padded, BLOCK_COLUMNS) as i:
        block = out + ((i >> 5) * tile + token) * FLOAT_BLOCK_BYTES
        for k in range(2):
            code.store(code.load(F32x16, x + (i * 4 + 64 * k)), block + 64 * k)
