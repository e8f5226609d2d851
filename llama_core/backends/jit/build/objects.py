"""From kernels and control code to object files that need neither Numba nor a compiler to load.

    matmul.py, vector.py, attention.py, kv_store.py  --llvmlite-->  LLVM IR  --optimise-->  kernels' object
    primitives.py                                    --llvmlite-->  LLVM IR --+
                                                                              |-- link, optimise --> control's
    schedule.py, step*.py                            --Numba----->  LLVM IR --+

Numba translates the control code, which is plain Python over integers; it sees the kernels as external
functions, as C would, and so does the machine: a kernel is worth a call. Primitives, single instructions,
are inlined. The two objects know each other by names only, so that two processes make them at once.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from llama_core.backends.jit.kernels import attention
from llama_core.backends.jit.control import declarations
from llama_core.backends.jit.kernels import kv_store
from llama_core.backends.jit.kernels import matmul
from llama_core.backends.jit.control import primitives
from llama_core.backends.jit.control import schedule
from llama_core.backends.jit.control import step
from llama_core.backends.jit.control import attention as step_attention
from llama_core.backends.jit.control import attention_large as step_attention_large
from llama_core.backends.jit.control import attention_small as step_attention_small
from llama_core.backends.jit.control import products as step_products
from llama_core.backends.jit.control import wide as step_wide
from llama_core.backends.jit.kernels import vector
from llama_core.backends.jit.layout import KINDS, KV_KINDS, ROW_COUNTS
from llama_core.backends.jit.build.variants import Isa, llvm_feature_list

# What Numba compiles.
CONTROL = (
    schedule,
    step_attention,
    step_attention_small,
    step_attention_large,
    step_products,
    step_wide,
    step,
)
ENTRIES = ("run", "helper", "stop")


def target_machine(isa: Isa) -> Any:
    """LLVM's code generator for this machine, restricted to what the variant may use."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = isa.cpu, isa.features
    if not cpu:
        cpu = llvm.get_host_cpu_name()
        features = ",".join(filter(None, [llvm_feature_list(), isa.features]))
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )


def kernel_ir(isa: Isa) -> str:
    """All kernels of a variant."""
    module = ir.Module("kernels")
    for kind in KINDS:
        for tile in isa.tiles:
            matmul.write_matmul(module, isa, kind, tile)
    matmul.write_matmul_dispatch(module, isa)
    for kv_kind in KV_KINDS.values():
        for rows in ROW_COUNTS:
            attention.write_attend(module, isa, kv_kind, rows)
    attention.write_attend_dispatch(module)
    kv_store.write_store_f16(module, isa)
    for write in (
        vector.write_rms_norm,
        vector.write_quantize,
        vector.write_rotate,
        vector.write_swiglu,
        vector.write_elementwise,
        attention.write_merge,
        attention.write_normalize,
        kv_store.write_interleave,
        kv_store.write_store_q8,
    ):
        write(module)
    return str(module)


@functools.cache
def control_ir() -> tuple[list[str], dict[str, str]]:
    """The control code by Numba: LLVM IR of every function, and the symbol of each entry.

    Such a function has the C signature `int32 f(void **result, void **unused, int64 ...)`.
    """
    import numba
    from numba import types

    njit: Any = numba.njit  # two of its options are missing from its types

    # Numba loads what it compiles at once, so the kernels' names must mean something; that copy never runs.
    nowhere = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p).value
    namespace: dict[str, Any] = {}
    for name, function in _functions_of(declarations).items():
        signature = inspect.signature(function)
        returns = types.none if signature.return_annotation == "None" else types.int64
        llvm.add_symbol(name, nowhere)
        namespace[name] = types.ExternalFunction(name, returns(*[types.int64] * len(signature.parameters)))
    functions: dict[str, Callable[..., Any]] = {}
    for module in CONTROL:
        namespace.update({k: v for k, v in vars(module).items() if isinstance(v, int)})
        functions.update(_functions_of(module))
    compiled: dict[str, Any] = {}

    def compile_(name: str) -> None:
        code = functions[name].__code__
        for callee in code.co_names:
            if callee in functions and callee not in compiled:
                compile_(callee)
        # The same code, its names bound to compiled functions instead of the module's Python ones. An
        # explicit signature keeps Numba from compiling it again for every constant argument.
        bound = FunctionType(code, namespace, name)
        signature = (types.int64,) * code.co_argcount
        dispatcher = njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(
            bound
        )
        namespace[name] = dispatcher
        compiled[name] = dispatcher.overloads[signature]

    for name in ENTRIES:
        compile_(name)
    texts = [result.library.get_llvm_str() for result in compiled.values()]
    return texts, {name: compiled[name].fndesc.llvm_func_name for name in ENTRIES}


def optimise(module: Any, machine: Any) -> None:
    """Make a parsed module this machine's, check it, and run LLVM's passes over it."""
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # Kernels are unrolled and vectorised where they are written.
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def kernels_object(isa: Isa) -> bytes:
    """The kernels of a variant as an object file."""
    machine = target_machine(isa)
    module = llvm.parse_assembly(kernel_ir(isa))
    optimise(module, machine)
    emitted: bytes = machine.emit_object(module)
    return emitted


def control_object(isa: Isa) -> tuple[bytes, dict[str, str]]:
    """The control code for a variant's processor as an object file that calls the kernels by name, and the
    symbol of each entry in it."""
    machine = target_machine(isa)
    texts, symbols = control_ir()
    written = ir.Module("primitives")
    primitives.write_primitives(written)
    module = llvm.parse_assembly(str(written))
    for text in texts:
        module.link_in(llvm.parse_assembly(text))
    # What nobody outside uses may be inlined or dropped.
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in symbols.values():
            value.linkage = "internal"
    optimise(module, machine)
    return machine.emit_object(module), symbols


def _functions_of(module: Any) -> dict[str, Callable[..., Any]]:
    return {
        k: v for k, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
    }
