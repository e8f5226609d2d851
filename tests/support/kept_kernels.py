"""The machine code of the compiled backend, for all tests of this run and of those after it.

    python -m tests.support.kept_kernels VARIANT SET FOLDER

is the backend's own builder, which keeps what takes it longest: the control code as Numba translates it, five
seconds, once for all variants; and all kernels of a variant, seven to ten, once for its sets. The tests of
single kernels need those anyway. Only the smallest set is built as the product builds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_core.backends.jit.build import builder
from llama_core.backends.jit.build.library import cache_key
from llama_core.backends.jit.build.variants import PORTABLE, Isa
from llama_core.own_code import module_command, module_environment

if sys.platform != "win32":
    import fcntl

BUILT_AS_ALWAYS = "simple"


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Where systems have such locks, one process at a time runs the `with` block."""
    with lock.open("w") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in the file, which the process that comes first makes."""
    with one_at_a_time(path.with_suffix(".lock")):
        if not path.exists():
            made = path.with_suffix(f".{os.getpid()}")
            made.write_bytes(make())
            made.replace(path)
    return path.read_bytes()


def kept_object(folder: Path, isa: Isa, make: Callable[[Isa], bytes]) -> bytes:
    """All kernels of a variant as an object file."""
    return kept(folder / f"{cache_key(isa)}.object", lambda: make(isa))


def start(isa: Isa, kernel_set: str, folder: Path) -> subprocess.Popen[bytes]:
    """This module in a process of its own, in place of `builder.start_builder`."""
    command = module_command("tests.support.kept_kernels", isa.name, kernel_set, str(folder))
    return subprocess.Popen(command, env=module_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def main(variant: str, kernel_set: str, given: str) -> None:
    """Build a library of kernels and write it to stdout."""
    os.environ["NUMBA_OPT"] = "0"  # as the builder sets it; read by Numba when it is imported
    from llama_core.backends.jit.build import control_code, objects

    folder = Path(given)
    translate, compile_kernels = control_code.control_ir, objects.kernels_object

    def control_ir() -> tuple[list[str], dict[str, str]]:
        path = folder / f"{cache_key(PORTABLE, 'control')}.ir"  # of no variant, but the name has one
        texts, symbols = json.loads(kept(path, lambda: json.dumps(translate()).encode()))
        return texts, symbols

    control_code.control_ir = control_ir
    if kernel_set != BUILT_AS_ALWAYS:
        builder._start = lambda *_: None  # no process of their own for the kernels
        objects.kernels_object = lambda isa, _: kept_object(folder, isa, compile_kernels)
    builder.write_library(variant, kernel_set, given)


if __name__ == "__main__":
    main(*sys.argv[1:])
