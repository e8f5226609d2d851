"""Getting the kernels: from the cache, or from child processes that build them while weights are packed.

Numba and LLVM hold the interpreter's lock for most of the seconds they need, and 150 MiB of memory ever
after. In processes of their own they do neither: the caller's screen stays alive. Two of them halve the time:

    python -m llama_core.backends.jit.build.builder VARIANT FILE   the builder: the control code, by Numba
    python -m llama_core.backends.jit.build.builder VARIANT        its own child: the kernels, to stdout

The stdin of each is a pipe that nobody writes to: its end means that the parent is gone, however it went, and
then nobody wants the kernels.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from llama_core.backends.jit.build.library import (
    KERNEL_ENTRIES,
    SOURCES,
    Built,
    Library,
    OnProgress,
    cache_key,
    read_built,
    sources_digest,
    write_built,
)
from llama_core.backends.jit.build.variants import VARIANTS, Isa
from llama_core.events import LoadProgress
from llama_core.own_module import module_command, module_environment

# Built in this process or by its child, so that a second model need not wait where there is no cache folder.
_built: dict[str, Built] = {}


class KernelLoad:
    """The kernels of a variant on their way; `library` waits for them.

    folder: the cache, None for none. Whatever is wrong with it, kernels are built instead, which takes some
    seconds and is announced as the stage "kernels".
    """

    def __init__(self, isa: Isa, folder: Path | None, on_progress: OnProgress | None = None) -> None:
        self._isa = isa
        self._key = cache_key(isa)
        self._path = None if folder is None else folder / f"{self._key}.kernels"
        self._on_progress = on_progress
        self._child: subprocess.Popen[bytes] | None = None
        self._found = _built.get(self._key)
        if self._found is None and self._path is not None:
            self._found = read_built(self._path)
        if self._found is None:
            self._directory = tempfile.TemporaryDirectory(prefix="llama-core-kernels-")
            self._result = Path(self._directory.name) / "kernels"
            self._child = start_builder(isa, self._result)

    def library(self) -> Library:
        """The loaded kernels. Raises whatever the compiler does where it cannot build them."""
        if self._found is None:
            self._tell(0)
            self._found = _built[self._key] = self._wait() or build_here(self._isa)
            self._directory.cleanup()
            if self._path is not None:
                write_built(self._path, self._found)
            self._tell(1)
        return Library(self._found)

    def abandon(self) -> None:
        """They are not wanted any more."""
        if self._child is not None:
            self._end_child()
            self._directory.cleanup()

    def _wait(self) -> Built | None:
        """What the child built; None where there is no child, or it failed."""
        if self._child is None:
            return None
        failed = self._child.wait()
        self._end_child()
        return None if failed else read_built(self._result)

    def _end_child(self) -> None:
        if self._child is not None:
            with self._child:  # which closes its stdin and waits for it
                self._child.kill()
            self._child = None

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(LoadProgress("kernels", done, 1))


def start_builder(isa: Isa, result: Path) -> subprocess.Popen[bytes] | None:
    """A child that builds into `result`; None where this program is no Python that could run one."""
    return _start(isa.name, str(result), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def _start(*arguments: str, stdin: int, stdout: int) -> subprocess.Popen[bytes] | None:
    """This module in a process of its own."""
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    try:
        return subprocess.Popen(
            module_command("llama_core.backends.jit.build.builder", *arguments),
            env=module_environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def build_here(isa: Isa, kernels: Callable[[], bytes] | None = None) -> Built:
    """Build everything in this process, or all but the kernels, which `kernels` then gets at the end.

    Raises OSError where the sources are others than when this process began.
    """
    if sources_digest() != SOURCES:
        raise OSError("the program was changed while it ran; start it again")
    from llama_core.backends.jit.build.link import CannotFlatten, flatten
    from llama_core.backends.jit.build.objects import control_object, kernels_object

    control, symbols = control_object(isa)
    objects = (control, kernels() if kernels is not None else kernels_object(isa))
    symbols |= {name: name for name in KERNEL_ENTRIES}
    try:
        code, entries = flatten(objects, symbols)
    except CannotFlatten:
        return Built(objects, symbols)
    return Built((code,), entries)


def main(variant: str, result: str) -> None:
    """The builder: everything, into the file `result`."""
    # Numba optimises and loads its own copy of every function, which is never run; ours is optimised later.
    # It reads this when it is imported.
    os.environ["NUMBA_OPT"] = "0"
    helper = _start(variant, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    _end_with_parent(Path(result).parent)
    kernels = None if helper is None else functools.partial(_written_by, helper)
    write_built(Path(result), build_here(VARIANTS[variant], kernels))


def _written_by(helper: subprocess.Popen[bytes]) -> bytes:
    """What the builder's child has written. Raises RuntimeError where it failed."""
    assert helper.stdout is not None
    with helper:
        written = helper.stdout.read()
        # Its stdin stays open until it has ended: it would take the end of that for ours.
        code = helper.wait()
    if code:
        raise RuntimeError(f"the process that builds the kernels ended with {code}")
    return written


def write_kernels(variant: str) -> None:
    """The builder's child: the kernels' object file, to stdout."""
    _end_with_parent()
    from llama_core.backends.jit.build.objects import kernels_object

    sys.stdout.buffer.write(kernels_object(VARIANTS[variant]))
    sys.stdout.buffer.flush()


def _end_with_parent(folder: Path | None = None) -> None:
    """From now on, end with the parent, and remove its folder, which it may not have been able to."""

    def wait() -> None:
        # Not `sys.stdin.read`: its lock, still held when all is done, would abort the interpreter's end.
        os.read(0, 1)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(*sys.argv[1:])
    else:
        write_kernels(sys.argv[1])
