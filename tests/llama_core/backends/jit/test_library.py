"""The cache of machine code: used when whole, harmless when not."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np
import psutil
import pytest

from llama_core.backends.jit.build import builder as kernel_build
from llama_core.backends.jit.build import library, objects
from llama_core.backends.jit.build import link as link_module
from llama_core.backends.jit.build.link import CannotLink
from llama_core.backends.jit.build.objects import target_machine
from llama_core.backends.jit.build.variants import AVX512_VNNI, PORTABLE, choose, host_features
from llama_core.backends.jit.layout import IQ4, Q4K, Q4M, Q5, Q6K, Q8, kernel_set
from llama_core.backends.jit.weights import checked_plan
from llama_core.errors import KernelsUnavailableError, ModelFormatError

IDS = np.arange(5, dtype=np.int32)


@pytest.fixture
def cached(kernel_cache: Path, trusted_folder: Path, toys: SimpleNamespace) -> Path:
    """This processor's kernels, in a file of the cache."""
    checkpoint = toys.checkpoint()
    toys.load(checkpoint)
    kinds = {kind for matrix in checked_plan(checkpoint).matrices.values() for kind in matrix.kinds}
    return kernel_cache / f"{library.cache_key(choose(host_features()), kernel_set(kinds))}.kernels"


def test_a_set_of_kernels_holds_what_its_models_need() -> None:
    """Less is built for a file of few kinds; what a set lacks is never asked for."""
    assert kernel_set({Q4M, Q8}) == "simple"
    assert kernel_set({Q4K, Q6K}) == "k"
    assert kernel_set({Q4K, Q8, Q5}) == "k"
    assert kernel_set({Q4K, IQ4}) == "all"
    sizes = [len(objects.kernel_ir(PORTABLE, name)) for name in ("simple", "k", "all")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


def load_in_new_process(folder: Path) -> str:
    """Load a toy model with this cache in a fresh process; prints whether it compiled, and imported numba."""
    code = """
import sys, pathlib, importlib.util
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec); spec.loader.exec_module(helpers)
import numpy as np
import psutil
stages = []
model = helpers.load_jit_model(helpers.make_checkpoint(), kernel_cache=pathlib.Path(sys.argv[2]),
                               on_progress=lambda p: stages.append(p.stage))
logits = model.forward(np.arange(5, dtype=np.int32), model.new_cache(8))
print("kernels" in stages, "numba" in sys.modules, logits.tobytes().hex()[:64])
model.close()
"""
    helpers = Path(__file__).with_name("conftest.py")
    run = subprocess.run(
        [sys.executable, "-c", code, str(helpers), str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_a_second_start_needs_no_compiler(cached: Path) -> None:
    compiled, numba, _ = load_in_new_process(cached.parent).split()
    assert (compiled, numba) == ("False", "False")


def test_versions_are_those_of_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told without it where a folder tells, asked of it where none does."""
    for package in ("numba", "llvmlite"):
        assert library.installed_version(package) == metadata.version(package)
    (tmp_path / "oddly").mkdir()
    (tmp_path / "oddly" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(metadata.PackageNotFoundError):
        library.installed_version("oddly")
    (tmp_path / "oddly-1.2.dist-info").mkdir()
    assert library.installed_version("oddly") == "1.2"


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "not json", "no entries", "offset"])
def test_a_damaged_entry_is_ignored(cached: Path, trusted_folder: Path, damage: str) -> None:
    whole = cached.read_bytes()
    header, _, code = whole.partition(b"\n")
    moved = re.sub(rb'"run": \d+', lambda at: at[0] + b"0", header)
    damaged = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "flipped": header + b"\n" + code[:1000] + bytes([code[1000] ^ 1]) + code[1001:],
        "not json": b"\xff\xfe{" + whole,
        "no entries": header.replace(b"entries", b"entrees") + b"\n" + code,
        "offset": moved + b"\n" + code,
    }[damage]
    assert damaged != whole
    path = trusted_folder / cached.name
    path.write_bytes(damaged)
    assert library.read_built(path) is None
    path.write_bytes(whole)
    assert library.read_built(path) is not None


def test_a_folder_that_cannot_be_written_is_harmless(trusted_folder: Path) -> None:
    blocked = trusted_folder / "file"
    blocked.write_text("not a folder")
    library.write_built(blocked / "x.kernels", library.Built((b"code",), {"run": 5}))
    assert blocked.read_text() == "not a folder"
    assert library.read_built(blocked / "x.kernels") is None


@pytest.mark.parametrize(
    ("pieces", "entries"),
    [((b"code\nmore",), {"run": 5}), ((b"one object", b"\nanother"), {"run": "name"})],
)
def test_writing_leaves_whole_files_and_nothing_else(
    trusted_folder: Path, pieces: tuple[bytes, ...], entries: dict[str, int] | dict[str, str]
) -> None:
    path = trusted_folder / "new" / "x.kernels"
    built = library.Built(pieces, entries)
    library.write_built(path, built)
    assert library.read_built(path) == built
    assert os.listdir(path.parent) == ["x.kernels"]


def test_what_a_lax_umask_would_open_is_kept_and_found_again(trusted_folder: Path) -> None:
    path, built = trusted_folder / "cache" / "app" / "x.kernels", library.Built((b"code",), {"run": 5})
    before = os.umask(0)
    try:
        library.write_built(path, built)
    finally:
        os.umask(before)
    assert library.read_built(path) == built


def test_kernels_of_long_ago_make_way(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    built = library.Built((b"code",), {"run": 5})
    for name, age_s in (("old", 1.01 * library.KEPT_S), ("recent", 0.99 * library.KEPT_S)):
        library.write_built(folder / f"{name}.kernels", built)
        written = time.time() - age_s
        os.utime(folder / f"{name}.kernels", (written, written))
    (folder / "notes.txt").write_text("not ours")
    os.utime(folder / "notes.txt", (0, 0))
    library.write_built(folder / "new.kernels", built)
    assert sorted(os.listdir(folder)) == ["new.kernels", "notes.txt", "recent.kernels"]


@pytest.mark.parametrize("error", [OSError(13, "not executable"), MemoryError("no page for code")])
def test_a_system_that_forbids_machine_code_is_no_fault_of_the_model(
    toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Memory may be nowhere both written and run: systemd's MemoryDenyWriteExecute, SELinux."""

    def refuse(built: library.Built) -> None:
        raise error

    monkeypatch.setattr(library, "_place_linked", refuse)
    monkeypatch.setattr(library, "_place_objects", refuse)
    with pytest.raises(KernelsUnavailableError, match=r"cannot run here: .*(not executable|no page)"):
        toys.load(toys.checkpoint())


def test_the_key_names_variant_sources_and_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    key = library.cache_key(PORTABLE)
    assert key != library.cache_key(AVX512_VNNI)
    assert key == library.cache_key(PORTABLE)
    monkeypatch.setattr(library, "installed_version", lambda package: "0.0")
    assert key != library.cache_key(PORTABLE)


@pytest.mark.slow
def test_an_object_file_does_as_well_as_flat_code(
    toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of platforms whose object files are not linked."""

    def refuse(*_: object) -> None:
        raise CannotLink("for this test")

    checkpoint = toys.checkpoint("Q4_1")
    model = toys.load(checkpoint)
    wanted = model.forward(IDS, model.new_cache(8)).copy()
    monkeypatch.setattr(link_module, "link", refuse)
    monkeypatch.setattr(kernel_build, "_built", {})
    monkeypatch.setattr(kernel_build, "start_builder", lambda *_: None)  # in this process, then
    other = toys.load(checkpoint, kernel_cache=None)
    (built,) = kernel_build._built.values()
    assert not built.is_linked
    np.testing.assert_array_equal(other.forward(IDS, other.new_cache(8)), wanted)


def test_a_builder_that_fails_is_replaced(
    toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, cached: Path
) -> None:
    """A child that dies leaves the work to this process."""
    monkeypatch.setattr(kernel_build, "_built", {})
    built = library.read_built(cached)
    monkeypatch.setattr(kernel_build, "build_here", lambda isa, kernel_set: built)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    model = toys.load(toys.checkpoint(), kernel_cache=None)
    assert np.isfinite(model.forward(IDS, model.new_cache(8))).all()


def test_a_program_that_was_changed_while_it_runs_builds_nothing(
    toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, cached: Path
) -> None:
    """What a process of now builds would read this one's plans wrongly."""
    monkeypatch.setattr(kernel_build, "_built", {})
    built = cached.read_bytes()
    monkeypatch.setattr(kernel_build, "_written_by", lambda child: built)  # as the builder would give them
    for module in (library, kernel_build):
        monkeypatch.setattr(module, "SOURCES", "as they were when this process began")
    with pytest.raises(KernelsUnavailableError, match="was changed while it ran; start it again"):
        toys.load(toys.checkpoint(), kernel_cache=None)


def test_a_load_that_fails_ends_the_builder(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_build, "_built", {})
    started = []
    start = kernel_build.start_builder
    monkeypatch.setattr(
        kernel_build, "start_builder", lambda *args: started.append(start(*args)) or started[-1]
    )
    checkpoint = toys.checkpoint()
    tensors = {k: v for k, v in checkpoint.tensors.items() if k != "norm"}
    with pytest.raises(ModelFormatError):
        toys.load(replace(checkpoint, tensors=tensors), kernel_cache=None)
    assert started == []  # nothing is built for a model that cannot be loaded

    def interrupted(load: kernel_build.KernelLoad) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel_build.KernelLoad, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toys.load(checkpoint, kernel_cache=None)
    assert started[0].poll() is not None


@pytest.mark.parametrize("code", [b"", b"MZ not ELF" * 20, b"\x7fELF\x02\x01" + bytes(200)])
def test_what_is_no_object_file_of_ours_is_not_linked(code: bytes) -> None:
    with pytest.raises(CannotLink):
        link_module.link([code], {"run": "f"})


# A function that calls another, and that one, which reads a table and calls a function of its own.
ASKS = """
declare i64 @answer(i64)
define i64 @ask(i64 %x) {
  %y = call i64 @answer(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
"""
ANSWERS = """
@table = internal constant [3 x i64] [i64 5, i64 6, i64 40]
define internal i64 @ask(i64 %x) noinline {
  ret i64 0
}
define i64 @answer(i64 %x) {
  %p = getelementptr [3 x i64], ptr @table, i64 0, i64 %x
  %y = load i64, ptr %p
  %z = call i64 @ask(i64 %x)
  %sum = add i64 %y, %z
  ret i64 %sum
}
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="objects are linked there only"
)
def test_objects_that_call_each_other_become_one_piece() -> None:
    machine = target_machine(PORTABLE)
    asks, answers = (bytes(machine.emit_object(llvm.parse_assembly(text))) for text in (ASKS, ANSWERS))
    for pair in ([asks, answers], [answers, asks]):
        code, entries = link_module.link(pair, {"run": "ask"})
        memory, addresses = library._place_linked(library.Built((code,), entries))
        assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(addresses["run"])(2) == 41
        del memory
    with pytest.raises(CannotLink, match="outside"):
        link_module.link([asks], {"run": "ask"})
    with pytest.raises(CannotLink, match="run"):
        link_module.link([answers], {"run": "run"})


def test_a_builder_that_is_done_ends_well_while_its_parent_waits() -> None:
    """Else its work would be thrown away, and done again in the parent."""
    code = (
        "from llama_core.backends.jit.build import builder, library\n"
        "builder.build_here = lambda *_: library.Built((b'code',), {'run': 5})\n"
        "builder.write_library('portable', 'all')"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    written = kernel_build._written_by(child)
    assert library.unpacked(written) == library.Built((b"code",), {"run": 5})


def test_the_control_code_is_built_for_the_first_set_alone(
    trusted_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba takes longer than a set of kernels. A folder that is open to others gives and gets nothing."""
    asked = []

    def control(isa: object) -> tuple[bytes, dict[str, str]]:
        asked.append(isa)
        return b"code", {"run": "run_symbol"}

    monkeypatch.setattr(objects, "control_object", control)
    first, second = (kernel_build._control(PORTABLE, trusted_folder) for _ in range(2))
    assert first == second == (b"code", {"run": "run_symbol"})
    assert asked == [PORTABLE]
    (kept,) = trusted_folder.iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"code", b"edoc"))
    assert kernel_build._control(PORTABLE, trusted_folder) == first
    trusted_folder.chmod(0o777)
    kept.write_bytes(library.packed(PLANTED))
    assert kernel_build._control(PORTABLE, trusted_folder) == first
    assert len(asked) == 3
    assert library.unpacked(kept.read_bytes()) == PLANTED


def test_a_builder_ends_with_its_parent() -> None:
    """However the parent goes: here without a chance to say so."""
    code = (
        "import os\n"
        "from llama_core.backends.jit.build.builder import start_builder\n"
        "from llama_core.backends.jit.build.variants import PORTABLE\n"
        "print(start_builder(PORTABLE).pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # It would need some ten seconds for its work.
    deadline = time.monotonic() + 60
    while psutil.pid_exists(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_builders_own_child_ends_with_it() -> None:
    child = kernel_build._start("portable", "kernels")
    assert child is not None
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    assert child.wait(60) == 1
    assert child.stdout.read() == b""
    child.stdout.close()


def test_kernels_that_are_cut_short_are_not_taken() -> None:
    code = "import sys; sys.stdout.write('half an object'); sys.exit(3)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(RuntimeError, match="ended with 3"):
        kernel_build._written_by(child)


# What would run if a planted file were believed: it does nothing but end the process.
PLANTED = library.Built((b"\x0f\x0b" * 8,), {"run": 0, "helper": 0, "stop": 0, "pack": 0})


@pytest.mark.parametrize(
    "plant", ["file of mode 0666", "group may write", "open folder", "link", "linked folder"]
)
def test_planted_code_is_not_run(
    toys: SimpleNamespace,
    cached: Path,
    trusted_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    plant: str,
) -> None:
    """Kernels are had another way, and a sentence says why; what was planted stays as it was."""
    folder = trusted_folder / "kernels"
    library.write_built(folder / cached.name, PLANTED)
    given = folder
    if plant == "file of mode 0666":
        (folder / cached.name).chmod(0o666)
    elif plant == "group may write":
        (folder / cached.name).chmod(0o620)
    elif plant == "open folder":
        folder.chmod(0o1777)
    elif plant == "link":
        (folder / cached.name).rename(folder / "elsewhere")
        (folder / cached.name).symlink_to("elsewhere")
    else:
        given = trusted_folder / "linked"
        given.symlink_to(folder)
    before = (folder / cached.name).read_bytes()
    monkeypatch.setattr(kernel_build, "_built", {})
    built = cached.read_bytes()
    monkeypatch.setattr(kernel_build, "_written_by", lambda child: built)  # as the builder would give them
    notes = []
    caplog.set_level(logging.INFO, logger="llama_core")
    model = toys.load(toys.checkpoint(), kernel_cache=given, on_progress=lambda p: notes.append(p.note))
    assert np.isfinite(model.forward(IDS, model.new_cache(8))).all()
    reason = "is a link" if "link" in plant else "can be written by others"
    [note] = {note for note in notes if note}
    assert note.startswith("Kernels are built anew at each start, not kept: ")
    assert reason in note
    [record] = caplog.records
    # Below a warning, which the command line would say a second time.
    assert (record.levelno, record.getMessage()) == (logging.INFO, note)
    assert (folder / cached.name).read_bytes() == before


def test_kernels_are_not_kept_where_others_could_exchange_them(
    toys: SimpleNamespace, cached: Path, trusted_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = cached.read_bytes()
    monkeypatch.setattr(kernel_build, "_built", {})
    monkeypatch.setattr(kernel_build, "_written_by", lambda child: built)
    trusted_folder.chmod(0o777)
    toys.load(toys.checkpoint(), kernel_cache=trusted_folder / "new")
    assert list(trusted_folder.iterdir()) == []
