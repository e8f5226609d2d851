"""The kernels that bring a key or value into its place in the cache (drawn in `attention.py`)."""

from __future__ import annotations

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.dots import to_bfloat16, to_float16
from llama_core.backends.jit.kernels.emit import F32, I8, I16, I32, Code, F32x16, Value
from llama_core.backends.jit.kernels.operations import absolute, maximum, reduce_lanes, round_even, select

FLOAT16_MAX = 65504.0


@kernel()
def interleave(code: Code, row: Value, out: Value, count: Value, stride: Value) -> None:
    """`count` float32, `stride` bytes apart: a row of queries into an interleaved group, or a key into its
    block."""
    with code.loop(0, count) as i:
        code.store(code.load(F32, row + i * 4), out + i * stride)


@kernel()
def store_f16(code: Code, isa: Isa, row: Value, out: Value, count: Value, stride: Value) -> None:
    """A key or value, (count,) float32, as float16, `stride` bytes apart. What is too large becomes the
    largest there is: as infinity a single number would make every reply NaN."""
    with code.loop(0, count) as i:
        number = code.load(F32, row + i * 4)
        number = select(number.compare(">", FLOAT16_MAX), code.splat(F32, FLOAT16_MAX), number)
        number = select(number.compare("<", -FLOAT16_MAX), code.splat(F32, -FLOAT16_MAX), number)
        code.store(to_float16(isa, number), out + i * stride)


@kernel()
def store_bf16(code: Code, row: Value, out: Value, count: Value, stride: Value) -> None:
    """A value, (count,) float32, as bfloat16, `stride` bytes apart: a half of two positions' pairs."""
    with code.loop(0, count) as i:
        code.store(_bfloat16(code, row + i * 4), out + i * stride)


@kernel()
def interleave_bf16(code: Code, row: Value, out: Value, count: Value, stride: Value) -> None:
    """A key, (count,) float32, as pairs of bfloat16, `stride` bytes apart."""
    _interleave_pairs(code, row, out, count, stride)


@kernel()
def interleave_factors(code: Code, isa: Isa, row: Value, out: Value, count: Value, stride: Value) -> None:
    """A row of queries, (count,) float32, that meets pairs of bfloat16, `stride` bytes apart: pairs where an
    instruction multiplies those, else the same numbers as float32."""
    if isa.pair_dots:
        _interleave_pairs(code, row, out, count, stride)
    else:
        with code.loop(0, count) as i:
            code.store(to_bfloat16(code.load(F32, row + i * 4)), out + i * stride)


def _interleave_pairs(code: Code, row: Value, out: Value, count: Value, stride: Value) -> None:
    with code.loop(0, count / 2) as i:
        for half in range(2):
            code.store(_bfloat16(code, row + i * 8 + 4 * half), out + i * stride + 2 * half)


def _bfloat16(code: Code, at: Value) -> Value:
    """One float32 from memory as a bfloat16's bits."""
    return (to_bfloat16(code.load(F32, at)).bits(I32) >> 16).to(I16)


@kernel()
def store_q8(code: Code, row: Value, out: Value, count: Value, stride: Value, scale_at: Value) -> None:
    """A key or value, (count,) float32, as int8, `stride` bytes apart, and their float32 scale: the largest
    magnitude / 127 (NaN where the row holds one)."""
    largest = code.var(code.splat(F32x16, 0.0))
    broken = code.var(code.splat(F32x16, 0.0))
    with code.loop(0, count, 16) as i:
        numbers = code.load(F32x16, row + i * 4)
        largest.set(maximum(absolute(numbers), largest.get()))
        broken.set(broken.get() + numbers * 0.0)
    top = reduce_lanes(largest.get(), maximum)
    zero = code.splat(F32, 0.0)
    inverse = select(top.compare("==", 0.0), zero, code.splat(F32, 127.0) / top)
    with code.loop(0, count) as i:
        number = round_even(code.load(F32, row + i * 4) * inverse)
        code.store(number.to(I32).to(I8), out + i * stride)
    code.store(top * (1.0 / 127.0) + reduce_lanes(broken.get(), Value.__add__), scale_at)
