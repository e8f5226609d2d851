"""Single machine operations that Numba has no words for: memory by address, atomics, `pause`, a C call."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir

from llama_core.backends.jit.kernels.declare import primitive
from llama_core.backends.jit.kernels.emit import I32, I64, Code, Value

MACHINE = platform.machine()


def _pointer(code: Code, address: Value) -> Any:
    return code.builder.inttoptr(address.ir, I64.as_pointer())


@primitive(returns=I64)
def word(code: Code, address: Value, index: Value) -> Value:
    """The int64 number `index` of those at `address`."""
    return code.load(I64, address + index * 8)


@primitive()
def store_word(code: Code, address: Value, index: Value, value: Value) -> None:
    """An int64 as number `index` of those at `address`."""
    code.store(value, address + index * 8)


@primitive()
def store_int32(code: Code, address: Value, value: Value) -> None:
    """The low 32 bits of `value` to `address`."""
    code.store(value.to(I32), address)


@primitive()
def fetch(code: Code, address: Value, lines: Value) -> None:
    """Ask for so many cache lines."""
    with code.loop(0, lines) as line:
        code.prefetch(address + line * 64)


@primitive(returns=I64)
def atomic_load(code: Code, address: Value) -> Value:
    """The int64 there, in an order that all threads agree on, like every atomic below."""
    return Value(code, code.builder.load_atomic(_pointer(code, address), "seq_cst", 8))


@primitive()
def atomic_store(code: Code, address: Value, value: Value) -> None:
    """An int64 to `address`."""
    code.builder.store_atomic(value.ir, _pointer(code, address), "seq_cst", 8)


@primitive(returns=I64)
def atomic_add(code: Code, address: Value, value: Value) -> Value:
    """Add to the int64 there; returns what it was."""
    return Value(code, code.builder.atomic_rmw("add", _pointer(code, address), value.ir, "seq_cst"))


@primitive(returns=I64)
def compare_exchange(code: Code, address: Value, expected: Value, value: Value) -> Value:
    """Store where `expected` stands; returns 1 where it did, else 0."""
    pair = code.builder.cmpxchg(_pointer(code, address), expected.ir, value.ir, "seq_cst", "seq_cst")
    return Value(code, code.builder.extract_value(pair, 1)).zero_extend(I64)


@primitive()
def reads_before(code: Code) -> None:
    """What was read before it, by whatever means, is read before what is loaded after it."""
    code.builder.fence("acquire")


@primitive()
def pause(code: Code) -> None:
    """Tell the core that this is a waiting loop."""
    if MACHINE in ("x86_64", "AMD64"):
        code.call("llvm.x86.sse2.pause", ir.VoidType())
    elif MACHINE in ("aarch64", "arm64"):
        code.call("llvm.aarch64.hint", ir.VoidType(), 1)


@primitive(returns=I64)
def call_pointer(code: Code, function: Value, argument: Value) -> Value:
    """Call a C function by its address, `int f(void *)`."""
    type_ = ir.FunctionType(I32, [I64])
    pointer = code.builder.inttoptr(function.ir, type_.as_pointer())
    return Value(code, code.builder.call(pointer, [argument.ir])).to(I64)


@primitive(returns=I64)
def write_time(code: Code, function: Value, out: Value) -> Value:
    """Call C11's `int timespec_get(struct timespec *, int base)` by its address, for UTC."""
    type_ = ir.FunctionType(I32, [I64, I32])
    pointer = code.builder.inttoptr(function.ir, type_.as_pointer())
    return Value(code, code.builder.call(pointer, [out.ir, I32(1)])).to(I64)
