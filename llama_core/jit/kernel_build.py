"""Getting the kernels: from the cache, or from a child process that builds them while weights are packed.

Numba and LLVM hold the interpreter's lock for most of the seconds they need, and 150 MiB of memory ever
after. In a process of their own they do neither: the caller's screen stays alive.

    python -m llama_core.jit.kernel_build VARIANT FILE      what the child runs

The child's stdin is a pipe that nobody writes to: its end means that the parent is gone, however it went, and
then nobody wants the kernels or their folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from llama_core.engine.events import LoadProgress
from llama_core.jit.library import Built, Library, OnProgress, cache_key, read_built, write_built
from llama_core.jit.variants import VARIANTS, Isa

# Built in this process or by its child, so that a second model need not wait where there is no cache folder.
_built: dict[str, Built] = {}


class KernelLoad:
    """The kernels of a variant on their way; `library` waits for them.

    folder: the cache, None for none. Whatever is wrong with it, kernels are built instead, which takes some
    seconds and is announced as the stage "kernels".
    """

    def __init__(self, isa: Isa, folder: Path | None, on_progress: OnProgress | None = None) -> None:
        self._isa = isa
        self._path = None if folder is None else folder / f"{cache_key(isa)}.kernels"
        self._key = cache_key(isa)
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
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "llama_core.jit.kernel_build", isa.name, str(result)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def build_here(isa: Isa) -> Built:
    """Build the kernels in this process."""
    from llama_core.jit.build import build_object
    from llama_core.jit.flatten import CannotFlatten, flatten

    object_code, symbols = build_object(isa)
    try:
        return Built(*flatten(object_code, symbols))
    except CannotFlatten:
        return Built(object_code, symbols)


def main(variant: str, result: str) -> None:
    """Build for a parent process."""
    # Numba optimises and loads its own copy of every function, which is never run; ours is optimised later.
    # It reads this when it is imported.
    os.environ["NUMBA_OPT"] = "0"
    threading.Thread(target=_end_with_parent, args=(Path(result).parent,), daemon=True).start()
    write_built(Path(result), build_here(VARIANTS[variant]))


def _end_with_parent(folder: Path) -> None:
    # Not `sys.stdin.read`: its lock, still held when the build is done, would abort the interpreter's end.
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
