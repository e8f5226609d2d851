"""From kernels and control code to object files that need neither Numba nor a compiler to load.

    kernels/       --llvmlite-->  LLVM IR  --optimise-->  kernels' object
    primitives.py  --llvmlite-->  LLVM IR --+
                                            |-- link, optimise --> control's object
    control/       --Numba----->  LLVM IR --+

Numba translates the control code, which is plain Python; it sees the kernels as external functions, as C
would, and so does the machine: a kernel is worth a call. Primitives, single instructions, are inlined. The
two objects know each other by names only, so that two processes make them at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from llama_core.backends.jit.build.variants import Isa, llvm_feature_list
from llama_core.backends.jit.kernels import (
    attention,
    kv_store,
    matmul,
    pack,
    primitives,
    quantize,
    recurrent,
    routing,
    stream,
    vector,
)
from llama_core.backends.jit.kernels.declare import DECLARED
from llama_core.backends.jit.layout import KERNEL_SETS, KINDS, PackedKind

# Importing them declares what they hold.
SOURCES = (attention, kv_store, matmul, pack, primitives, quantize, recurrent, routing, stream, vector)


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


def kernel_ir(isa: Isa, kernel_set: str = "all") -> str:
    """All kernels of a variant; those of a kind of weights for the kinds of the set alone."""
    left_out = [kind for kind in KINDS if kind not in KERNEL_SETS[kernel_set]]
    return _written("kernels", isa, inline=False, left_out=left_out)


def _written(name: str, isa: Isa, *, inline: bool, left_out: Collection[PackedKind] = ()) -> str:
    """LLVM IR of what is declared: the primitives, which are inlined, or the kernels."""
    module = ir.Module(name)
    for declared in DECLARED.values():
        if declared.inline == inline:
            declared.emit(module, isa, left_out)
    return str(module)


def optimise(module: Any, machine: Any) -> None:
    """Make a parsed module this machine's, check it, and run LLVM's passes over it."""
    _make_native(module, machine)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def _make_native(module: Any, machine: Any) -> None:
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()


def _optimise_kernels(module: Any, machine: Any) -> None:
    """As `optimise`, with what kernels gain by: their variables become registers, and their loops test at the
    end. They are unrolled and vectorised where they are written, so that all of LLVM's passes take ten times
    as long and make them no faster."""
    _make_native(module, machine)
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_loop_simplify_pass()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def kernels_object(isa: Isa, kernel_set: str = "all") -> bytes:
    """The kernels of a variant for a set of kinds of weights, as an object file."""
    machine = target_machine(isa)
    module = llvm.parse_assembly(kernel_ir(isa, kernel_set))
    _optimise_kernels(module, machine)
    emitted: bytes = machine.emit_object(module)
    return emitted


def control_object(isa: Isa) -> tuple[bytes, dict[str, str]]:
    """The control code for a variant's processor as an object file that calls the kernels by name, and the
    symbol of each entry in it."""
    from llama_core.backends.jit.build.control_code import control_ir  # Numba: the kernels do without

    machine = target_machine(isa)
    texts, symbols = control_ir()
    module = llvm.parse_assembly(_written("primitives", isa, inline=True))
    for text in texts:
        module.link_in(llvm.parse_assembly(text))
    # What nobody outside uses may be inlined or dropped.
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in symbols.values():
            value.linkage = "internal"
    optimise(module, machine)
    return machine.emit_object(module), symbols
