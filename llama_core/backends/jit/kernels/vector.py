"""The kernels between the matrix products: norm, rotary angles, SwiGLU.

All take int64 arguments: addresses, and counts of numbers unless a name says bytes. Rows are padded with
zeros to a multiple of 32 numbers, so no kernel has a remainder loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import (
    F32,
    I8,
    I32,
    Code,
    F32x16,
    I32x16,
    Value,
    like,
)
from llama_core.backends.jit.kernels.operations import (
    fma,
    reduce_lanes,
    round_even,
    select,
    square_root,
)

I8x16 = ir.VectorType(I8, 16)
F32x8 = ir.VectorType(F32, 8)
LOG2_E = 1.4426950408889634
WHOLE = 1.5 * 2.0**23  # float32 from 2 ** 23 to 2 ** 24 are whole numbers
# 2 ** f = the sum of POWERS_OF_2[i] * f ** i for |f| <= 1 / 2: of those with 1 at 0 the nearest.
POWERS_OF_2 = (1.0, 0.69328294, 0.24221095, 0.05500885)


def exponential(x: Value) -> Value:
    """e ** x, sixteen at a time, within 2 units in the last place; 0 below -87, and e ** 88 above 88.

    x = n ln 2 + r with |r| <= ln 2 / 2: a polynomial (Taylor's, which suffices on so short an interval)
    for e ** r, times 2 ** n. ln 2 is taken off in two parts so that r is exact.
    """
    code = x.code
    x = select(x.compare(">", 88.0), code.splat(F32x16, 88.0), x)
    n = round_even(x * LOG2_E)
    r = fma(n, code.splat(F32x16, -0.693359375), x)
    r = fma(n, code.splat(F32x16, 2.12194440e-4), r)
    y = _polynomial(r, [1 / math.factorial(power) for power in range(8)])
    return select(x.compare("<", -87.0), code.splat(F32x16, 0.0), y * _whole_power_of_2(n))


def power_of_2(x: Value) -> Value:
    """2 ** x for x up to 127, a number or some at a time, within 2 units in the last place; 0 below -126."""
    n = round_even(x)
    y = _polynomial(x - n, [math.log(2) ** power / math.factorial(power) for power in range(8)])
    return select(x.compare("<", -126.0), x.code.splat(x.type, 0.0), y * _whole_power_of_2(n))


def rough_power_of_2(x: Value, least: float) -> Value:
    """2 ** x for x up to 0, sixteen at a time, within a part of 2 ** 13; 0 below `least`, which is -125 or
    higher. Half the work of `power_of_2`.

    Added to 1.5 * 2 ** 23, a number keeps no digits behind the point, and its whole part stands in the lowest
    bits. NaN stays NaN: what arithmetic makes has no low bits.
    """
    whole = x + WHOLE
    y = _polynomial(x - (whole - WHOLE), POWERS_OF_2)
    scaled = y.bits(I32x16) + (whole.bits(I32x16) << 23)
    return select(x.compare("<", least), x.code.splat(I32x16, 0), scaled).bits(F32x16)


def _whole_power_of_2(n: Value) -> Value:
    """2 ** n for whole numbers, -126 <= n <= 127, as float32 has them."""
    return ((n.to(like(n.type, I32)) + 127) << 23).bits(n.type)


def _polynomial(x: Value, numbers: Sequence[float]) -> Value:
    """The sum of numbers[i] * x ** i."""
    *lower, last = (x.code.splat(x.type, number) for number in numbers)
    total = last
    for number in reversed(lower):
        total = fma(total, x, number)
    return total


@kernel()
def rms_norm(code: Code, x: Value, weight: Value, out: Value, padded: Value, numbers: Value) -> None:
    """out = x / sqrt(mean(x * x) + eps) * weight (arXiv:1910.07467).

    x, weight, out: (padded,) float32. numbers: two float32, 1 / n (n is the true length, without padding) and
    eps.
    """
    mean = mean_square(code, x, padded, numbers)
    factor = code.splat(F32x16, 1.0) / square_root(mean + code.load_splat(F32, numbers + 4))
    with code.loop(0, padded, 16) as i:
        at = i * 4
        code.store(code.load(F32x16, x + at) * factor * code.load(F32x16, weight + at), out + at)


def mean_square(code: Code, x: Value, padded: Value, one_over_n_at: Value) -> Value:
    """The mean of x * x, in every lane. x: (padded,) float32; one_over_n_at: the address of 1 / n."""
    # Two sums, since one would wait for each addition in turn.
    squares = [code.var(code.splat(F32x16, 0.0)) for _ in range(2)]
    with code.loop(0, padded, 32) as i:
        for k, total in enumerate(squares):
            v = code.load(F32x16, x + (i * 4 + 64 * k))
            total.set(fma(v, v, total.get()))
    summed = reduce_lanes(squares[0].get() + squares[1].get(), Value.__add__).splat()
    return summed * code.load_splat(F32, one_over_n_at)


@kernel()
def rotate(code: Code, x: Value, cos: Value, sin: Value, half: Value) -> None:
    """Rotary embedding of one head in place. x: (2 half,) float32.

    Dimension j is paired with j + half (arXiv:2104.09864, in the layout of `checkpoint.py`); cos and sin hold
    `half` numbers each.
    """
    whole = half / 8 * 8
    for type_, start, stop, step in ((F32x8, 0, whole, 8), (F32, whole, half, 1)):
        with code.loop(start, stop, step) as j:
            at = j * 4
            first, second = code.load(type_, x + at), code.load(type_, x + at + half * 4)
            c, s = code.load(type_, cos + at), code.load(type_, sin + at)
            code.store(first * c - second * s, x + at)
            code.store(second * c + first * s, x + at + half * 4)


@kernel()
def swiglu(code: Code, pairs: Value, out: Value, count: Value) -> None:
    """out = gate / (1 + exp(-gate)) * up (arXiv:2002.05202). out: (count,) float32.

    pairs: sixteen gates, then their sixteen ups, and so on, as the fused matrix gives them.
    """
    with code.loop(0, count, 16) as i:
        gate, up = (code.load(F32x16, pairs + (i * 8 + 64 * k)) for k in range(2))
        denominator = exponential(code.splat(F32x16, 0.0) - gate) + 1.0
        code.store(gate / denominator * up, out + i * 4)


@kernel()
def geglu(code: Code, pairs: Value, out: Value, count: Value) -> None:
    """out = gelu(gate) * up, with the tanh form of GELU (arXiv:1606.08415), which is
    gate / (1 + exp(-2 sqrt(2 / pi) (gate + 0.044715 gate ** 3))). pairs, out: as for `swiglu`.
    """
    with code.loop(0, count, 16) as i:
        gate, up = (code.load(F32x16, pairs + (i * 8 + 64 * k)) for k in range(2))
        inner = gate * (gate * gate * 0.044715 + 1.0) * (-2.0 * math.sqrt(2.0 / math.pi))
        code.store(gate / (exponential(inner) + 1.0) * up, out + i * 4)


@kernel()
def clamped_swiglu(code: Code, pairs: Value, out: Value, count: Value) -> None:
    """out = (up + 1) * gate / (1 + exp(-1.702 gate)), gate at most 7, up from -7 to 7 (gpt-oss,
    arXiv:2508.10925). pairs, out: as for `swiglu`."""
    low, high = code.splat(F32x16, -7.0), code.splat(F32x16, 7.0)
    with code.loop(0, count, 16) as i:
        gate, up = (code.load(F32x16, pairs + (i * 8 + 64 * k)) for k in range(2))
        gate, up = (select(x.compare(">", 7.0), high, x) for x in (gate, up))
        up = select(up.compare("<", -7.0), low, up)
        code.store((up + 1.0) * (gate / (exponential(gate * -1.702) + 1.0)), out + i * 4)


@kernel()
def gate_row(code: Code, x: Value, gate: Value, count: Value) -> None:
    """x *= sigmoid(gate). x, gate: (count,) float32."""
    with code.loop(0, count, 16) as i:
        code.store(code.load(F32x16, x + i * 4) * sigmoid(code.load(F32x16, gate + i * 4)), x + i * 4)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)), sixteen at a time."""
    one = x.code.splat(F32x16, 1.0)
    return one / (exponential(x.code.splat(F32x16, 0.0) - x) + 1.0)


def capped(x: Value, cap: Value) -> Value:
    """cap * tanh(x / cap), sixteen at a time: tanh y = 1 - 2 / (exp(2 y) + 1)."""
    code = x.code
    return cap * (code.splat(F32x16, 1.0) - code.splat(F32x16, 2.0) / (exponential(x / cap * 2.0) + 1.0))


@kernel()
def cap_row(code: Code, x: Value, count: Value, cap: Value) -> None:
    """x = cap * tanh(x / cap). x: (count,) float32; cap: the address of one."""
    with code.loop(0, count, 16) as i:
        code.store(capped(code.load(F32x16, x + i * 4), code.load_splat(F32, cap)), x + i * 4)


@kernel()
def scale_row(code: Code, x: Value, count: Value, scale: Value) -> None:
    """x *= scale. x: (count,) float32; scale: the address of one."""
    with code.loop(0, count, 16) as i:
        code.store(code.load(F32x16, x + i * 4) * code.load_splat(F32, scale), x + i * 4)


@kernel()
def add_row(code: Code, x: Value, y: Value, count: Value) -> None:
    """x += y. x, y: (count,) float32."""
    with code.loop(0, count, 16) as i:
        code.store(code.load(F32x16, x + i * 4) + code.load(F32x16, y + i * 4), x + i * 4)


@kernel()
def add_scaled(code: Code, x: Value, y: Value, count: Value, scale: Value) -> None:
    """x += scale * y. x, y: (count,) float32; scale: the address of one."""
    with code.loop(0, count, 16) as i:
        total = fma(code.load(F32x16, y + i * 4), code.load_splat(F32, scale), code.load(F32x16, x + i * 4))
        code.store(total, x + i * 4)


@kernel()
def clear_row(code: Code, x: Value, count: Value) -> None:
    """x = 0. x: (count,) float32."""
    with code.loop(0, count, 16) as i:
        code.store(code.splat(F32x16, 0.0), x + i * 4)


@kernel()
def copy_row(code: Code, x: Value, y: Value, count: Value) -> None:
    """x = y. x, y: (count,) float32."""
    with code.loop(0, count, 16) as i:
        code.store(code.load(F32x16, y + i * 4), x + i * 4)
