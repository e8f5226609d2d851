"""The control code by Numba: plain Python over integers and records becomes LLVM IR.

Every name that a function uses is looked up where the function stands, and bound by what it is:

    a function                of the control code, compiled first
    Kernel (`declare.py`)     an external function, all int64, as C would see it
    Pointer (`record.py`)     an address read as a record
    Switch (`switch.py`)      a chain of comparisons, compiled first
    a number                  a constant

Anything else is an error. Arguments are typed by their annotations: int, or a record.
"""

from __future__ import annotations

import ctypes
import dis
import functools
import inspect
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llama_core.backends.jit.control import schedule, step
from llama_core.backends.jit.control.switch import Switch
from llama_core.backends.jit.kernels.declare import Kernel
from llama_core.backends.jit.record import Pointer, Record

# What is called from outside, by name.
ENTRIES: dict[str, Callable[..., None]] = {"run": step.run, "helper": step.helper, "stop": schedule.stop}


@functools.cache
def control_ir() -> tuple[list[str], dict[str, str]]:
    """LLVM IR of every function that the entries need, and the symbol of each entry.

    Such a function has the C signature `int32 f(void **result, void **unused, ...)`.
    """
    compiler = _Compiler()
    symbols = {name: compiler.compiled(entry).fndesc.llvm_func_name for name, entry in ENTRIES.items()}
    return [result.library.get_llvm_str() for result in compiler.results], symbols


class _Compiler:
    """Compiles each function once. results: Numba's, in the order in which they were made."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self._compiled: dict[object, Any] = {}
        # Numba loads what it compiles at once, so kernels' names must mean something; that copy never runs.
        self._nowhere = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p).value

    def compiled(self, function: Callable[..., Any]) -> Any:
        """Numba's result for a function with annotated arguments."""
        self.bind("", function)
        return self._compiled[function].overloads[_signature(function)]

    def bind(self, name: str, used: object) -> Any:
        """What stands for `used`, a function's global, in compiled code. TypeError: nothing does."""
        if isinstance(used, int) or used is None:
            return used
        if not isinstance(used, Kernel | Pointer | Switch | FunctionType):
            raise TypeError(f"{name}: compiled code cannot use {used!r}")
        if used not in self._compiled:
            self._compiled[used] = self._bind(used)
        return self._compiled[used]

    def _bind(self, used: Kernel | Pointer[Any] | Switch | FunctionType) -> Any:
        if isinstance(used, Kernel):
            llvm.add_symbol(used.name, self._nowhere)
            returns = types.none if used.returns is None else types.int64
            return types.ExternalFunction(used.name, returns(*[types.int64] * len(used.parameters)))
        if isinstance(used, Pointer):
            return _cast(used.kind)
        if isinstance(used, Switch):
            return self._switch(used)
        return self._function(used)

    def _function(self, function: FunctionType) -> Any:
        used = {x.argval for x in dis.get_instructions(function) if x.opname == "LOAD_GLOBAL"}
        known = function.__globals__
        namespace = {name: self.bind(name, known[name]) for name in sorted(used & known.keys())}
        return self._njit(function.__code__, namespace, _signature(function))

    def _switch(self, switch: Switch) -> Any:
        """Its number first, then the functions' arguments. Raises TypeError where these differ."""
        functions = list(switch.functions.values())
        signature = _signature(functions[0])
        if any(_signature(function) != signature for function in functions):
            raise TypeError(f"the functions of {switch.name} have different arguments")
        arguments = [f"a{i}" for i in range(len(signature))]
        returns = inspect.signature(functions[0]).return_annotation != "None"
        lines = [f"def {switch.name}({', '.join(['number', *arguments])}):"]
        for number in switch.functions:
            call = f"f{number}({', '.join(arguments)})"
            lines.append(f"    if number == {number}: {'return ' if returns else ''}{call}")
        lines.append(f"    return {0 if returns else ''}")
        made: dict[str, Any] = {}
        exec("\n".join(lines), made)
        namespace = {f"f{number}": self.bind(switch.name, f) for number, f in switch.functions.items()}
        return self._njit(made[switch.name].__code__, namespace, (types.int64, *signature))

    def _njit(self, code: Any, namespace: dict[str, Any], signature: tuple[Any, ...]) -> Any:
        # An explicit signature keeps Numba from compiling it again for every constant argument.
        njit: Any = numba.njit  # two of its options are missing from its types
        bound = FunctionType(code, namespace, code.co_name)
        made = njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(bound)
        self.results.append(made.overloads[signature])
        return made


@functools.cache
def _record_type(kind: type[Record]) -> Any:
    return numba.from_dtype(kind.dtype)


@functools.cache
def _signature(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The types of a function's arguments. Raises TypeError for one that compiled code cannot take."""
    hints = typing.get_type_hints(function)
    hints.pop("return", None)
    found = []
    for name, hint in hints.items():
        if isinstance(hint, type) and issubclass(hint, Record):
            found.append(_record_type(hint))
        elif hint is int:
            found.append(types.int64)
        else:
            raise TypeError(f"{function.__name__}: {name} is {hint}, not an int or a record")
    return tuple(found)


def _cast(kind: type[Record]) -> Any:
    """An address, int64, as a record."""
    record = _record_type(kind)

    @intrinsic
    def cast(typing_context: Any, address: Any) -> Any:
        def write(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), write

    return cast
