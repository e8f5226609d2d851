"""The compiled kernels in files and in this process.

Neither Numba nor LLVM is imported where the cache has what is needed: they would take longer, and more
memory, than everything else at a start together.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import itertools
import json
import mmap
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core import own_code
from llama_core.backends.jit.build.variants import Isa, cpu_description, llvm_feature_list
from llama_core.events import LoadProgress
from llama_core.trusted_files import make_private_folder, read_trusted

OnProgress = Callable[[LoadProgress], None]


def sources_digest() -> str:
    """Of the files of the compiled backend as they are now."""
    return own_code.sources_digest(Path(__file__).parents[1])


# As they were when this process read them. An upgrade may change them under a program that runs, and kernels
# of the new sources would take its plans for theirs.
SOURCES = sources_digest()
# Kernels of an older version are kept so long, for whoever goes back to it.
KEPT_S = 60 * 86400
# Kernels that are called from outside; all other entries are the control code's.
KERNEL_ENTRIES = ("pack", "stream")


@dataclass(frozen=True, slots=True)
class Built:
    """What the builder made: one piece of linked code with the entries' offsets in it (`link.py`), or, where
    that cannot be, object files with their symbols."""

    pieces: tuple[bytes, ...]
    entries: dict[str, int] | dict[str, str]

    @property
    def is_linked(self) -> bool:
        """Whether all kernels are one piece of code, with offsets in it as entries."""
        return all(isinstance(place, int) for place in self.entries.values())


class Library:
    """Machine code in this process. Calls go through ctypes, which holds no interpreter lock meanwhile."""

    def __init__(self, built: Built) -> None:
        self._memory, addresses = _place_linked(built) if built.is_linked else _place_objects(built)
        self._result = ctypes.c_void_p()
        self.run = self._function(addresses["run"], 1)
        self.helper = self._function(addresses["helper"], 2)
        self.stop = self._function(addresses["stop"], 1)
        self.pack: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(addresses["pack"])
        self.stream: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(addresses["stream"])

    def _function(self, address: int, n_args: int) -> Callable[..., None]:
        """An entry of the control code."""
        # Numba's functions take the addresses of a result and of an exception first; ours have neither.
        pointer = ctypes.POINTER(ctypes.c_void_p)
        type_ = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, *[ctypes.c_int64] * n_args)
        function: Any = type_(address)
        unused = ctypes.byref(self._result)

        def call(*args: int) -> None:
            function(unused, unused, *args)

        return call


def _place_linked(built: Built) -> tuple[object, dict[str, int]]:
    """Copy linked code into memory of its own; returns its owner and the entries' addresses."""
    (code,) = built.pieces
    memory = mmap.mmap(-1, len(code))
    memory.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # Writable first, executable after, never both.
    libc: Any = ctypes.CDLL(None, use_errno=True)
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(code)), protection):
        raise OSError(ctypes.get_errno(), "the system refuses to make memory executable")
    return memory, {name: start + int(offset) for name, offset in built.entries.items()}


def _place_objects(built: Built) -> tuple[object, dict[str, int]]:
    """The same for object files, by LLVM."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    for piece in built.pieces:
        engine.add_object_file(llvm.ObjectFileRef.from_data(piece))
    engine.finalize_object()
    return engine, {name: engine.get_function_address(str(s)) for name, s in built.entries.items()}


def cache_key(isa: Isa, kernel_set: str = "all") -> str:
    """Names everything the machine code depends on: our sources, the compilers, the processor, the kinds of
    weights."""
    versions = [installed_version(package) for package in ("numba", "llvmlite")]
    system = f"{platform.system()} {platform.machine()}"
    parts = "\0".join((SOURCES, isa.name, system, _processor(), *versions))
    return f"{isa.name}-{kernel_set}-{hashlib.sha256(parts.encode()).hexdigest()[:24]}"


def installed_version(package: str) -> str:
    """A package's version, by the name of the folder that tells of it. Raises PackageNotFoundError."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations if spec else None) or ():
        found = list(Path(place).parent.glob(f"{package}-*.dist-info"))
        if len(found) == 1:
            return found[0].name.removeprefix(f"{package}-").removesuffix(".dist-info")
    # It would know this too, but takes longer to import (mail, archives) than all else here.
    from importlib import metadata

    return metadata.version(package)


def _processor() -> str:
    described = cpu_description()
    if described is not None:
        # Clock rates change from start to start.
        changing = ("cpu mhz", "bogomips")
        return "\n".join(x for x in described.splitlines() if not x.lower().startswith(changing))
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()} {llvm_feature_list()}"


def packed(built: Built) -> bytes:
    """A library as bytes, for a file or another process."""
    code = b"".join(built.pieces)
    sizes = [len(piece) for piece in built.pieces]
    header = {"entries": built.entries, "sizes": sizes, "sha256": _digest(built.entries, sizes, code)}
    return json.dumps(header).encode() + b"\n" + code


def unpacked(data: bytes) -> Built | None:
    """A library from what `packed` gave, or None where that is not whole or not of our sources."""
    try:
        header, _, code = data.partition(b"\n")
        described = json.loads(header)
        entries, sizes = described["entries"], described["sizes"]
        if described["sha256"] != _digest(entries, sizes, code):
            return None
        kinds = {type(place) for place in entries.values()}
        ends = itertools.accumulate(sizes)
        pieces = tuple(code[end - size : end] for end, size in zip(ends, sizes, strict=True))
        return Built(pieces, entries) if kinds in ({int}, {str}) else None
    except (ValueError, KeyError, TypeError, AttributeError):  # not what we wrote
        return None


def read_built(path: Path) -> Built | None:
    """A library from a file, or None where there is none that is whole and of our sources.

    Raises UntrustedFileError where someone else can have written the file: what it holds would be run.
    """
    try:
        return unpacked(read_trusted(path))
    except OSError:
        return None


def write_built(path: Path, built: Built) -> None:
    """Keep a library. A folder that cannot be written costs the next start its time, nothing else."""
    import tempfile  # nothing that a start with kept kernels needs

    try:
        make_private_folder(path.parent)
        # Written aside and renamed, so that no other process ever sees half a file.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                file.write(packed(built))
                file.close()
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
        for other in path.parent.glob("*.kernels"):
            if other.stat().st_mtime < time.time() - KEPT_S:
                other.unlink()
    except OSError:
        return


def _digest(entries: Any, sizes: Any, code: bytes) -> str:
    """Of all that is placed and called, and of what it was built from: another process built it."""
    return hashlib.sha256(json.dumps([SOURCES, entries, sizes]).encode() + code).hexdigest()
