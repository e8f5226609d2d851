"""The compiled backend: a model in packed weights, with kernels built by Numba and llvmlite.

    a file's tensors          the model's layers         kernels/   what is computed: vector instructions,
         |                            |                             written by llvmlite (emit, declare)
    plan, packing, weights    program                    control/   who computes what, and when: phases and
    panels of sixteen rows    operations, and the                   claims, in Python that Numba compiles
    (drawn in layout)         phases of each step           |
         |                            |                  build/     both into machine code for this processor,
         +------------+---------------+                     |       and the files that keep it
                      |                                     |
    workspace         |       record, control/records       |
    buffers    -------+       words by which Python and     |
    cache             |       compiled code agree           |
    keys, values    model ------------------------------ threads
                    `forward`: fill in the plan, call    the helpers, and their sleep

Python's part of a token is some ten microseconds. The rest is one call of compiled code, in which every
thread runs down a table of phases; the loop is in `control/step.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llama_core.backends.jit.layout import KV_KINDS, kernel_set
from llama_core.backends.jit.plan import shape_problem
from llama_core.choices import MAX_THREADS, KvType, WeightForm
from llama_core.cores import usable_cores
from llama_core.errors import KernelsUnavailableError, LlamaCoreError, UnsupportedModelError

if TYPE_CHECKING:
    from llama_core.backends.jit.model import JitLlama
    from llama_core.backends.jit.phase_clock import PhaseWatch
    from llama_core.backends.jit.workspace import Tuning
    from llama_core.checkpoint import Checkpoint
    from llama_core.events import LoadProgress

# Forces an instruction set (a name from variants.py), for tests and comparisons.
ISA_VARIABLE = "LLAMA_CORE_JIT_ISA"


def jit_available() -> str | None:
    """None when the compiled backend can run here, else the reason; imports nothing heavy."""
    for package in ("numba", "llvmlite"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    return None


def load_jit_model(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    kv: KvType = "f32",
    weights: WeightForm = "file",
    kernel_cache: Path | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
    isa: str | None = None,
    tuning: Tuning | None = None,
    watch: PhaseWatch | None = None,
) -> JitLlama:
    """Pack a checkpoint's weights and load (or build) the kernels.

    threads: None for all cores. kv: how keys and values are kept. weights: "8bit" makes 8 bits of those that
    the file keeps as floats. kernel_cache: a folder for machine code; without one it is built anew in each
    process. isa: forces a variant (see `variants.py`); default: the environment's LLAMA_CORE_JIT_ISA, else
    the best. tuning: other choices than the model's own. watch: hears of phases, of the steps it wants.

    Raises UnsupportedModelError for a shape or for numbers that the kernels cannot take,
    KernelsUnavailableError where the system forbids them, ModelFormatError, NotEnoughMemoryError,
    LlamaCoreError for a wrong LLAMA_CORE_JIT_ISA, ValueError for a wrong argument.
    """
    from llama_core.backends.jit.build.builder import KernelLoad
    from llama_core.backends.jit.build.variants import choose, host_features
    from llama_core.backends.jit.model import JitLlama
    from llama_core.backends.jit.packing import TooLargeError
    from llama_core.backends.jit.weights import PackedWeights, checked_plan
    from llama_core.backends.jit.workspace import OWN_CHOICES

    if kv not in KV_KINDS:
        raise ValueError(f"the kv type is {kv!r}, expected {' or '.join(KV_KINDS)}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}, expected 1 to {MAX_THREADS}")
    _check_shape(checkpoint)
    try:
        variant = choose(host_features(), isa or os.environ.get(ISA_VARIABLE))
    except ValueError as error:
        if isa:
            raise
        raise LlamaCoreError(f"{ISA_VARIABLE}: {error}") from error
    n_threads = threads or min(usable_cores(), MAX_THREADS)
    plan = checked_plan(checkpoint, eight_bit=weights == "8bit")
    wanted = kernel_set(kind for matrix in plan.matrices.values() for kind in matrix.kinds)
    with _kernels_wanted():
        kernels = KernelLoad(variant, kernel_cache, on_progress, wanted)
    try:
        with _kernels_wanted():
            library = kernels.library()
        packed = PackedWeights(plan, library, n_threads, on_progress)
    except TooLargeError as error:
        problem = "its numbers are too large for 8 bits (use --backend numpy)"
        raise UnsupportedModelError(checkpoint.path, error.tensor, problem) from error
    except BaseException:  # Ctrl+C too: the build is a process of its own
        kernels.abandon()
        raise
    freqs = checkpoint.tensors.get("rope_freqs")
    return JitLlama(
        checkpoint.config,
        None if freqs is None else freqs.to_float32(),
        packed,
        library,
        variant,
        n_threads,
        kv=KV_KINDS[kv],
        tuning=tuning or OWN_CHOICES,
        watch=watch,
    )


@contextlib.contextmanager
def _kernels_wanted() -> Iterator[None]:
    """Where neither a temporary folder nor executable memory is to be had, it is not the model's fault."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise KernelsUnavailableError(f"the compiled backend cannot run here: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong. llvmlite puts guesses about permissions in place of what the system said of its
    library; Linux says "failed to map segment" where no address space is left for it."""
    first = error
    while first.__context__ is not None:
        first = first.__context__
    return f"{first} (memory may be short)" if "failed to map segment" in str(first) else str(error)


def _check_shape(checkpoint: Checkpoint) -> None:
    problem = shape_problem(checkpoint.config)
    if problem is not None:
        raise UnsupportedModelError(checkpoint.path, "config", f"{problem} (use --backend numpy)")
