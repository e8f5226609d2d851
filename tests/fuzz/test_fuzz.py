"""A short run of the fuzzer, with the same seed each time; the long one is `python -m tests.fuzz`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.mutate import mutate
from tests.fuzz.run import fuzz
from tests.support.luck import SEED

SHORT = 200
TARGETS = [
    "gguf",
    "safetensors",
    "config.json",
    "llama2c",
    "npz",
    "npy",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.bin",
    "tokenizer.np",
]


def run(name: str, count: int | None) -> None:
    target = next(t for t in targets.TARGETS if t.name == name)
    print(f"seed {SEED}")
    outcome = fuzz(target, mutate, targets.refuses, count=count or target.count, seed=SEED)
    assert outcome.failures == []
    assert outcome.mutants == (count or target.count)
    assert outcome.opened < outcome.mutants, "mutants that all open test little"
    # Few archives survive their checksums; that the seeds themselves open has been seen by `fuzz`.
    assert outcome.opened > 0 or outcome.mutants < 10_000


def test_every_target_is_run() -> None:
    assert [t.name for t in targets.TARGETS] == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_mutants(
    name: str,
) -> None:
    run(name, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_all_mutants(
    name: str,
) -> None:
    run(name, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a process's peak")
def test_growth_below_an_earlier_peak_is_seen() -> None:
    earlier = bytearray(b"x") * (400 << 20)
    del earlier

    def greedy(open_file: object, path: Path) -> bool:
        return len(bytearray(b"x") * (128 << 20)) == 0

    outcome = fuzz(targets.TARGETS[0], mutate, greedy, count=1, seed=SEED)
    assert any("grew by" in failure for failure in outcome.failures)


def cut_everywhere(name: str, folder: Path, most: int | None) -> None:
    target = next(t for t in targets.TARGETS if t.name == name)
    path = folder / target.place
    for seed in target.make_seeds(folder):
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
def test_files_cut_short(name: str, tmp_path: Path) -> None:
    """faults.md row 4 at some lengths; the slow test takes all."""
    cut_everywhere(name, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_files_cut_at_every_length(name: str, tmp_path: Path) -> None:
    cut_everywhere(name, tmp_path, None)
