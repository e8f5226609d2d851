"""Single machine operations that Numba has no words for: reading memory by address, atomics, `pause`.

Each becomes a tiny function that the optimiser inlines into the control code (`step.py` and its like).
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir

from llama_core.backends.jit.kernels.emit import I32, I64, Code, Value


def _inlined(code: Code, result: Value | None = None) -> None:
    code.function.attributes.add("alwaysinline")
    code.finish(result)


def _pointer(code: Code, address: Value) -> Any:
    return code.builder.inttoptr(address.ir, I64.as_pointer())


def write_primitives(module: Any) -> None:
    """All of them, for the processor that this runs on."""
    write_memory(module)
    write_fetch(module)
    write_atomics(module)
    write_waiting(module, platform.machine())


def write_memory(module: Any) -> None:
    """`word(address, index)`: the int64 there; `store_int32(address, value)`."""
    code = Code(module, "word", 2, returns=I64)
    address, index = code.args
    _inlined(code, code.load(I64, address + index * 8))
    code = Code(module, "store_int32", 2)
    address, value = code.args
    code.store(value.to(I32), address)
    _inlined(code)


def write_fetch(module: Any) -> None:
    """`fetch(address, lines)`: ask for so many cache lines."""
    code = Code(module, "fetch", 2)
    address, lines = code.args
    with code.loop(0, lines) as line:
        code.prefetch(address + line * 64)
    code.finish()


def write_atomics(module: Any) -> None:
    """`atomic_load(address)`, `atomic_store(address, value)`, `atomic_add(address, value)` (returns what was
    there), `compare_exchange(address, expected, value)` (returns 1 where it stored), `reads_before()`
    (what was read before it, by whatever means, is read before what is loaded after it)."""
    code = Code(module, "atomic_load", 1, returns=I64)
    loaded = code.builder.load_atomic(_pointer(code, code.args[0]), "seq_cst", 8)
    _inlined(code, Value(code, loaded))
    code = Code(module, "atomic_store", 2)
    code.builder.store_atomic(code.args[1].ir, _pointer(code, code.args[0]), "seq_cst", 8)
    _inlined(code)
    code = Code(module, "atomic_add", 2, returns=I64)
    before = code.builder.atomic_rmw("add", _pointer(code, code.args[0]), code.args[1].ir, "seq_cst")
    _inlined(code, Value(code, before))
    code = Code(module, "compare_exchange", 3, returns=I64)
    address, expected, value = code.args
    pair = code.builder.cmpxchg(_pointer(code, address), expected.ir, value.ir, "seq_cst", "seq_cst")
    _inlined(code, Value(code, code.builder.extract_value(pair, 1)).zero_extend(I64))
    code = Code(module, "reads_before", 0)
    code.builder.fence("acquire")
    _inlined(code)


def write_waiting(module: Any, machine: str) -> None:
    """`pause()`: tell the core that this is a waiting loop; `call_pointer(function, argument)`: a C function
    by address, `int f(void *)`."""
    code = Code(module, "pause", 0)
    if machine in ("x86_64", "AMD64"):
        code.call("llvm.x86.sse2.pause", ir.VoidType())
    elif machine in ("aarch64", "arm64"):
        code.call("llvm.aarch64.hint", ir.VoidType(), 1)
    _inlined(code)
    code = Code(module, "call_pointer", 2, returns=I64)
    function, argument = code.args
    type_ = ir.FunctionType(I32, [I64])
    pointer = code.builder.inttoptr(function.ir, type_.as_pointer())
    _inlined(code, Value(code, code.builder.call(pointer, [argument.ir])).to(I64))
