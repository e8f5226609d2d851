"""Getting the kernels: from the cache, or from child processes that build them.

Numba and LLVM hold the interpreter's lock for most of the seconds they need, and 150 MiB of memory ever
after. In processes of their own they do neither: the caller's screen stays alive. Two of them halve the time:

    python -m llama_core.backends.jit.build.builder VARIANT SET library FOLDER    control code, by Numba
    python -m llama_core.backends.jit.build.builder VARIANT SET kernels           its own child: the kernels

SET names the kinds of weights that there are kernels for (`layout.KERNEL_SETS`). The control code is the same
for all of them: where there is a cache FOLDER, it is kept there, and the next set takes half the work.

Each writes what it made to its stdout, a pipe, so that it is nowhere where others could exchange it. The
stdin of each is a pipe that nobody writes to: its end means that the parent is gone, however it went, and
then nobody wants the kernels.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
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
    packed,
    read_built,
    sources_digest,
    unpacked,
    write_built,
)
from llama_core.backends.jit.build.variants import Isa, choose, host_features
from llama_core.events import LoadProgress
from llama_core.own_code import module_command, module_environment
from llama_core.trusted_files import UntrustedFileError

_log = logging.getLogger(__name__)
# Built in this process or by its child, so that a second model need not wait where there is no cache folder.
_built: dict[str, Built] = {}


class KernelLoad:
    """The kernels of a variant on their way; `library` waits for them.

    kernel_set: the kinds of weights they multiply. folder: the cache, None for none. Whatever is wrong with
    it, kernels are built instead, which takes some seconds and is announced as the stage "kernels". Where
    someone else can write into it, nothing of it is run, and a sentence says so.
    """

    def __init__(
        self,
        isa: Isa,
        folder: Path | None,
        on_progress: OnProgress | None = None,
        kernel_set: str = "all",
    ) -> None:
        self._isa, self._set = isa, kernel_set
        self._key = cache_key(isa, kernel_set)
        self._path = None if folder is None else folder / f"{self._key}.kernels"
        self._note = ""
        self._on_progress = on_progress
        self._child: subprocess.Popen[bytes] | None = None
        self._found = _built.get(self._key)
        if self._found is None and self._path is not None:
            try:
                self._found = read_built(self._path)
            except UntrustedFileError as error:
                self._path = None
                self._note = f"Kernels are built anew at each start, not kept: {error}."
                _log.info(self._note)  # the progress tells the person
        if self._found is None:
            self._child = start_builder(isa, kernel_set, None if self._path is None else folder)

    def library(self) -> Library:
        """The loaded kernels. Raises whatever the compiler does where it cannot build them."""
        if self._found is None:
            self._tell(0)
            self._found = _built[self._key] = self._wait() or build_here(self._isa, self._set)
            if self._path is not None:
                write_built(self._path, self._found)
            self._tell(1)
        return Library(self._found)

    def abandon(self) -> None:
        """They are not wanted any more."""
        self._end_child()

    def _wait(self) -> Built | None:
        """What the child built; None where there is no child, or it failed."""
        if self._child is None:
            return None
        try:
            return unpacked(_written_by(self._child))
        except RuntimeError:
            return None
        finally:
            self._end_child()

    def _end_child(self) -> None:
        if self._child is not None:
            with self._child:  # which closes its stdin and waits for it
                self._child.kill()
            self._child = None

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(LoadProgress("kernels", done, 1, self._note))


def start_builder(
    isa: Isa, kernel_set: str = "all", folder: Path | None = None
) -> subprocess.Popen[bytes] | None:
    """A child that builds everything and writes it to its stdout; None where this program is no Python that
    could run one. folder: where the control code is kept."""
    return _start(isa.name, kernel_set, "library", *([] if folder is None else [str(folder)]))


def _start(*arguments: str) -> subprocess.Popen[bytes] | None:
    """This module in a process of its own."""
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    try:
        return subprocess.Popen(
            module_command("llama_core.backends.jit.build.builder", *arguments),
            env=module_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _written_by(child: subprocess.Popen[bytes]) -> bytes:
    """What a child has written to its end. Raises RuntimeError where it failed."""
    assert child.stdout is not None
    with child:
        written = child.stdout.read()
        # Its stdin stays open until it has ended: it would take the end of that for ours.
        code = child.wait()
    if code:
        raise RuntimeError(f"the process that builds the kernels ended with {code}")
    return written


def build_here(
    isa: Isa,
    kernel_set: str = "all",
    kernels: Callable[[], bytes] | None = None,
    folder: Path | None = None,
) -> Built:
    """Build everything in this process, or all but the kernels, which `kernels` then gets at the end, and the
    control code where `folder` has it.

    Raises OSError where the sources are others than when this process began.
    """
    if sources_digest() != SOURCES:
        raise OSError("the program was changed while it ran; start it again")
    from llama_core.backends.jit.build.link import CannotLink, link
    from llama_core.backends.jit.build.objects import kernels_object

    control, symbols = _control(isa, folder)
    objects = (control, kernels() if kernels is not None else kernels_object(isa, kernel_set))
    symbols |= {name: name for name in KERNEL_ENTRIES}
    try:
        code, entries = link(objects, symbols)
    except CannotLink:
        return Built(objects, symbols)
    return Built((code,), entries)


def _control(isa: Isa, folder: Path | None) -> tuple[bytes, dict[str, str]]:
    """The control code as an object file, with the symbol of each entry: from the folder, or built and kept
    there."""
    path = None if folder is None else folder / f"{cache_key(isa, 'control')}.kernels"
    try:
        found = None if path is None else read_built(path)
    except UntrustedFileError:  # the parent, which gave the folder, has said so where it matters
        found = path = None
    if found is not None:
        return found.pieces[0], {name: str(symbol) for name, symbol in found.entries.items()}
    from llama_core.backends.jit.build.objects import control_object

    code, symbols = control_object(isa)
    if path is not None:
        write_built(path, Built((code,), symbols.copy()))
    return code, symbols


def write_library(variant: str, kernel_set: str, folder: str | None = None) -> None:
    """The builder: everything, to stdout."""
    # Numba optimises and loads its own copy of every function, which is never run; ours is optimised later.
    # It reads this when it is imported.
    os.environ["NUMBA_OPT"] = "0"
    helper = _start(variant, kernel_set, "kernels")
    _end_with_parent()
    kernels = None if helper is None else functools.partial(_written_by, helper)
    kept = None if folder is None else Path(folder)
    _write(packed(build_here(choose(host_features(), variant), kernel_set, kernels, kept)))


def write_kernels(variant: str, kernel_set: str) -> None:
    """The builder's child: the kernels' object file, to stdout."""
    _end_with_parent()
    from llama_core.backends.jit.build.objects import kernels_object

    _write(kernels_object(choose(host_features(), variant), kernel_set))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    """From now on, end with the parent."""

    def wait() -> None:
        # Not `sys.stdin.read`: its lock, still held when all is done, would abort the interpreter's end.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    {"library": write_library, "kernels": write_kernels}[sys.argv[3]](*sys.argv[1:3], *sys.argv[4:])
