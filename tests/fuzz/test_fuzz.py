"""A short run of the fuzzer, with the same seed each time; the long one is `python -m tests.fuzz`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from luck import SEED

HERE = Path(__file__).parent
SHORT = 200
TARGETS = [
    "gguf",
    "safetensors",
    "config.json",
    "llama2c",
    "npz",
    "npy",
    "tokenizer.json",
    "tokenizer.bin",
    "tokenizer.np",
]


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files() -> ModuleType:
    return load("model_files", HERE.parent / "llama_core" / "loaders" / "model_files.py")


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    return load("targets", HERE / "targets.py")


def run(name: str, files: ModuleType, targets: ModuleType, count: int | None) -> None:
    target = next(t for t in targets.TARGETS if t.name == name)
    mutate = load("mutate", HERE / "mutate.py").mutate
    runner = load("run", HERE / "run.py")
    print(f"seed {SEED}")
    outcome = runner.fuzz(target, files, mutate, targets.refuses, count=count or target.count, seed=SEED)
    assert outcome.failures == []
    assert outcome.mutants == (count or target.count)
    assert outcome.opened < outcome.mutants, "mutants that all open test little"
    # Few archives survive their checksums; that the seeds themselves open has been seen by `fuzz`.
    assert outcome.opened > 0 or outcome.mutants < 10_000


def test_every_target_is_run(targets: ModuleType) -> None:
    assert [t.name for t in targets.TARGETS] == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_mutants(name: str, files: ModuleType, targets: ModuleType) -> None:
    run(name, files, targets, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_all_mutants(name: str, files: ModuleType, targets: ModuleType) -> None:
    run(name, files, targets, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a process's peak")
def test_growth_below_an_earlier_peak_is_seen(files: ModuleType, targets: ModuleType) -> None:
    earlier = bytearray(b"x") * (400 << 20)
    del earlier
    runner = load("run", HERE / "run.py")

    def greedy(open_file: object, path: Path) -> bool:
        return len(bytearray(b"x") * (128 << 20)) == 0

    mutate = load("mutate", HERE / "mutate.py").mutate
    outcome = runner.fuzz(targets.TARGETS[0], files, mutate, greedy, count=1, seed=SEED)
    assert any("grew by" in failure for failure in outcome.failures)


def cut_everywhere(name: str, files: ModuleType, targets: ModuleType, folder: Path, most: int | None) -> None:
    target = next(t for t in targets.TARGETS if t.name == name)
    path = folder / target.place
    for seed in target.make_seeds(files, folder):
        n = len(seed.content)
        step = 1 if most is None else max(1, n // most)
        for length in [*range(SEED % step, n, step), n - 1]:
            if length == seed.whole:
                continue
            path.write_bytes(seed.content[:length])
            assert targets.refuses(target.open_file, path), (
                f"{name} ({seed.name}) cut to {length} of {n} bytes opens"
            )


@pytest.mark.parametrize("name", TARGETS)
def test_files_cut_short(name: str, files: ModuleType, targets: ModuleType, tmp_path: Path) -> None:
    """faults.md row 4 at some lengths; the slow test takes all."""
    cut_everywhere(name, files, targets, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_files_cut_at_every_length(name: str, files: ModuleType, targets: ModuleType, tmp_path: Path) -> None:
    cut_everywhere(name, files, targets, tmp_path, None)
