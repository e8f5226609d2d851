"""Kernels in the compiled backend's own language that only measurements need, one at a time."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from llama_core.backends.jit import ISA_VARIABLE
from llama_core.backends.jit.build.variants import Isa, choose, host_features

# Writes a kernel of the name and the number of arguments that it is compiled under.
Writer = Callable[[Any, Isa], None]


def own_isa() -> Isa:
    """The variant that the compiled backend takes here."""
    return choose(host_features(), os.environ.get(ISA_VARIABLE))


def assembly(isa: Isa, write: Writer) -> str:
    """The kernel as text."""
    machine, module = _optimised(isa, write)
    text: str = machine.emit_assembly(module)
    return text


@functools.cache
def compiled(isa: Isa, write: Writer, name: str, n_args: int) -> Callable[..., None]:
    """The kernel, which takes int64 and holds no interpreter lock. Raises ImportError without llvmlite."""
    import llvmlite.binding as llvm

    machine, module = _optimised(isa, write)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * n_args)(engine.get_function_address(name))

    def call(*args: int) -> None:
        function(*args)

    call.engine = engine  # type: ignore[attr-defined]  # its memory is the machine code
    return call


def _optimised(isa: Isa, write: Writer) -> tuple[Any, Any]:
    import llvmlite.binding as llvm
    from llvmlite import ir

    from llama_core.backends.jit.build.objects import optimise, target_machine

    machine = target_machine(isa)
    written = ir.Module("measurement")
    write(written, isa)
    module = llvm.parse_assembly(str(written))
    optimise(module, machine)
    return machine, module


def run_together(works: Sequence[Callable[[int], Any]], passes: int) -> float:
    """Each `work(passes)` on a thread of its own, all at once, after a `work(1)` to warm up: seconds from the
    first start to the last end."""
    barrier = threading.Barrier(len(works))
    spans: list[tuple[float, float]] = []

    def run(work: Callable[[int], Any]) -> None:
        work(1)
        barrier.wait()
        started = time.perf_counter()
        work(passes)
        spans.append((started, time.perf_counter()))

    workers = [threading.Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)
