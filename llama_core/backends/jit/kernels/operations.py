"""Operations on vectors beyond the signs of arithmetic: one LLVM intrinsic or one comparison each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from llama_core.backends.jit.kernels.emit import Value, element, is_float, lane_bytes


def reduce_lanes(a: Value, combine: Callable[[Value, Value], Value]) -> Value:
    """All lanes combined to one number, half with half: the order is fixed, so the bits are too."""
    while (lanes := a.type.count) > 1:
        a = combine(*(a.shuffle(range(first, first + lanes // 2)) for first in (0, lanes // 2)))
    return a.lane(0)


def _suffix(type_: Any) -> str:
    scalar = element(type_)
    name = f"f{lane_bytes(scalar) * 8}" if is_float(scalar) else f"i{scalar.width}"
    return f"v{type_.count}{name}" if isinstance(type_, ir.VectorType) else name


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c, rounded once."""
    return a.code.call(f"llvm.fma.{_suffix(a.type)}", a.type, a, b, c)


def maximum(a: Value, b: Value) -> Value:
    """The greater number in each lane; `b` where one is NaN."""
    return select(a.compare(">", b), a, b)


def absolute(a: Value) -> Value:
    """The magnitude in each lane, of floats."""
    return a.code.call(f"llvm.fabs.{_suffix(a.type)}", a.type, a)


def square_root(a: Value) -> Value:
    """The square root in each lane; NaN below 0."""
    return a.code.call(f"llvm.sqrt.{_suffix(a.type)}", a.type, a)


def round_even(a: Value) -> Value:
    """The nearest whole number, halves to the even one."""
    return a.code.call(f"llvm.rint.{_suffix(a.type)}", a.type, a)


def select(condition: Value, yes: Value, no: Value) -> Value:
    """Lane by lane, `yes` where the condition holds, else `no`."""
    return Value(yes.code, yes.code.builder.select(condition.ir, yes.ir, no.ir))
