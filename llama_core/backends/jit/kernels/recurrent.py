"""The kernels of states: a convolution along a text, and a memory that fades, is written and read.

What they compute is said in `architectures/recurrent.py`. They take a text's positions one after the other,
so that the bits do not depend on how it was cut into steps. (In chunks, as the papers have it, there would be
fewer passes over the memory. But each of its columns lives by itself, and sixteen of them stay in the nearest
cache for all positions of a step.)

A head's memory, state_dim rows of head_dim numbers, is cut into strips of sixteen columns:

    strip 0: | row 0: 16 numbers | row 1 | ... | row state_dim - 1 |    strip 1: | row 0 | ...

A position has four factors for each head, float32: what its memory is multiplied by, what is written is
multiplied by, and what key and query are multiplied by.

stride, out_stride: bytes from a position's row to the next one's.
"""

from __future__ import annotations

from typing import Literal

from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import F32, Code, F32x16, Value, Variable
from llama_core.backends.jit.kernels.operations import absolute, fma, maximum, reduce_lanes, square_root
from llama_core.backends.jit.kernels.vector import exponential, sigmoid
from llama_core.backends.jit.layout import FACTORS_BYTES

Rule = Literal["mamba2", "delta"]
# Keys and queries of length 1 (delta rule): added to the square of the length.
LENGTH_EPS = 1e-6
SUMS = 4  # that a column's rows are added to by turns: one would wait for each addition


@kernel(form=lambda isa: {0: "silu", 1: "gates"})
def convolve(
    code: Code,
    form: Literal["silu", "gates"],
    source: Value,
    stride: Value,
    gates: Value,
    out: Value,
    out_stride: Value,
    channels: Value,
    row_bytes: Value,
    taps: Value,
    filters: Value,
    bias: Value,
    before: Value,
    after: Value,
    n: Value,
    inputs: Value,
) -> None:
    """A causal convolution of some channels over n positions of a text.

    silu: out = silu(conv(x)), which may stand where x does. gates: out = c * conv(b * x), where b and c stand
    two times `gates` bytes and `gates` bytes before x. channels: a multiple of 16. filters, before, after:
    rows `row_bytes` apart: `taps` of filters, of the last inputs before these positions and behind them one
    less. bias: the address of a float32 a channel, 0 for none. inputs: scratch, 64 bytes for each of
    n + taps - 1 inputs.
    """
    held = taps - 1
    with code.loop(0, channels, 16) as c:
        at = c * 4
        with code.loop(0, held) as i:
            code.store(code.load(F32x16, before + i * row_bytes + at), inputs + i * 64)
        with code.loop(0, n) as t:
            x = source + t * stride + at
            value = code.load(F32x16, x)
            if form == "gates":
                value = code.load(F32x16, x - gates * 2) * value
            code.store(value, inputs + (held + t) * 64)
        total = code.var(code.splat(F32x16, 0.0))
        with code.loop(0, n) as t:
            total.set(code.splat(F32x16, 0.0))
            with code.when(bias.compare("!=", 0)):
                total.set(code.load(F32x16, bias + at))
            with code.loop(0, taps) as i:
                value = code.load(F32x16, inputs + (t + i) * 64)
                total.set(fma(value, code.load(F32x16, filters + i * row_bytes + at), total.get()))
            y = total.get()
            y = code.load(F32x16, source + t * stride + at - gates) * y if form == "gates" else silu(y)
            code.store(y, out + t * out_stride + at)
        with code.loop(0, held) as i:
            code.store(code.load(F32x16, inputs + (n + i) * 64), after + i * row_bytes + at)


@kernel(rule=lambda isa: {0: "mamba2", 1: "delta"})
def fade(
    code: Code,
    rule: Rule,
    step: Value,
    strength: Value,
    q: Value,
    k: Value,
    stride: Value,
    step_bias: Value,
    decay: Value,
    query_scale: Value,
    state_dim: Value,
    n: Value,
    factors: Value,
) -> None:
    """The factors of n positions for one head.

    step: the head's number that says how much its memory fades; step_bias, decay: addresses of a float32;
    delta: strength: that which says how much is written; q, k: (state_dim,), whose lengths become 1;
    query_scale: the address of a float32. factors: FACTORS_BYTES a position, which are written.
    """
    one = code.splat(F32x16, 1.0)
    with code.loop(0, n) as t:
        at = t * stride
        size = softplus(code.load_splat(F32, step + at) + code.load_splat(F32, step_bias))
        faded = exponential(size * code.load_splat(F32, decay))
        gain, key, query = size, one, one
        if rule == "delta":
            gain = sigmoid(code.load_splat(F32, strength + at))
            key, query = (one / square_root(_squares(code, x + at, state_dim) + LENGTH_EPS) for x in (k, q))
            query = query * code.load_splat(F32, query_scale)
        for i, factor in enumerate((faded, gain, key, query)):
            code.store(factor.lane(0), factors + t * FACTORS_BYTES + 4 * i)


@kernel(rule=lambda isa: {0: "mamba2", 1: "delta"})
def recur(
    code: Code,
    rule: Rule,
    q: Value,
    k: Value,
    v: Value,
    stride: Value,
    factors: Value,
    before: Value,
    after: Value,
    state_dim: Value,
    head_dim: Value,
    n: Value,
    out: Value,
    out_stride: Value,
) -> None:
    """One head's memory through n positions of a text, and what they read.

    memory = fade * memory + outer(k, gain * v), out = q @ memory; delta: instead of v what the faded memory
    does not know of it, v - k @ memory. q, k: (state_dim,), a multiple of 4; v, out: (head_dim,), a multiple
    of 16; factors: as `fade` gives them. before, after: the memory before these positions, and behind them,
    which is written.
    """
    with code.loop(0, head_dim, 16) as column:
        strip = column / 16 * state_dim * 64
        memory, kept = code.var(before + strip), after + strip
        sums = [code.var(code.splat(F32x16, 0.0)) for _ in range(SUMS)]
        with code.loop(0, n) as t:
            faded, gain, key, query = (
                code.load_splat(F32, factors + t * FACTORS_BYTES + 4 * i) for i in range(4)
            )
            query_at, key_at = q + t * stride, k + t * stride
            written = code.load(F32x16, v + t * stride + column * 4)
            if rule == "delta":
                _clear(code, sums)
                with code.loop(0, state_dim, SUMS) as i:
                    for j, total in enumerate(sums):
                        row = code.load(F32x16, memory.get() + (i + j) * 64)
                        total.set(fma(row, code.load_splat(F32, key_at + (i + j) * 4), total.get()))
                written = written - _sum(sums) * (faded * key)
            written = written * (gain * key)
            _clear(code, sums)
            with code.loop(0, state_dim, SUMS) as i:
                for j, total in enumerate(sums):
                    row = code.load(F32x16, memory.get() + (i + j) * 64) * faded
                    row = fma(written, code.load_splat(F32, key_at + (i + j) * 4), row)
                    code.store(row, kept + (i + j) * 64)
                    total.set(fma(row, code.load_splat(F32, query_at + (i + j) * 4), total.get()))
            code.store(_sum(sums) * query, out + t * out_stride + column * 4)
            memory.set(kept)


@kernel(rule=lambda isa: {0: "mamba2", 1: "delta"})
def gate_memory(
    code: Code,
    rule: Rule,
    y: Value,
    out_stride: Value,
    x: Value,
    z: Value,
    stride: Value,
    weight: Value,
    numbers: Value,
    head_dim: Value,
    n: Value,
) -> None:
    """What one head read at n positions, in place.

    mamba2: (y + weight * x) * silu(z), weight: the address of a float32. delta: norm(y) * silu(z), weight: of
    (head_dim,) float32, numbers: of two, 1 / head_dim and eps. y, x, z: (head_dim,), a multiple of 16.
    """
    with code.loop(0, n) as t:
        own, at = y + t * out_stride, t * stride
        factor = code.splat(F32x16, 1.0)
        if rule == "delta":
            mean = _squares(code, own, head_dim) * code.load_splat(F32, numbers)
            factor = factor / square_root(mean + code.load_splat(F32, numbers + 4))
        with code.loop(0, head_dim, 16) as i:
            value = code.load(F32x16, own + i * 4)
            if rule == "delta":
                value = value * factor * code.load(F32x16, weight + i * 4)
            else:
                value = fma(code.load(F32x16, x + at + i * 4), code.load_splat(F32, weight), value)
            code.store(value * silu(code.load(F32x16, z + at + i * 4)), own + i * 4)


def silu(x: Value) -> Value:
    """x * sigmoid(x), sixteen at a time."""
    return x / (exponential(x.code.splat(F32x16, 0.0) - x) + 1.0)


def softplus(x: Value) -> Value:
    """log(1 + exp(x)), sixteen at a time: max(x, 0) + log(1 + t) with t = exp(-|x|) of 0 to 1.

    log(1 + t) = 2 atanh(s) with s = t / (2 + t) of 0 to 1 / 3, of which eight terms of the series suffice.
    """
    code = x.code
    t = exponential(code.splat(F32x16, 0.0) - absolute(x))
    s = t / (t + 2.0)
    total = code.splat(F32x16, 2 / 15)
    for n in (13, 11, 9, 7, 5, 3, 1):
        total = fma(total, s * s, code.splat(F32x16, 2 / n))
    return fma(total, s, maximum(x, code.splat(F32x16, 0.0)))


def _squares(code: Code, x: Value, count: Value) -> Value:
    """The sum of the squares of (count,) float32, a multiple of 16, in every lane."""
    total = code.var(code.splat(F32x16, 0.0))
    with code.loop(0, count, 16) as i:
        value = code.load(F32x16, x + i * 4)
        total.set(fma(value, value, total.get()))
    return reduce_lanes(total.get(), Value.__add__).splat()


def _clear(code: Code, sums: list[Variable]) -> None:
    for total in sums:
        total.set(code.splat(F32x16, 0.0))


def _sum(sums: list[Variable]) -> Value:
    first, second, third, fourth = (total.get() for total in sums)
    return (first + second) + (third + fourth)
