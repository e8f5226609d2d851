"""`python -m tests.fuzz [TARGET ...] [--count N] [--seed S] [--keep FOLDER]`, from the repository's root."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

from tests.fuzz.mutate import mutate
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, refuses


def load_model_files() -> ModuleType:
    path = Path(__file__).parents[1] / "llama_core" / "loaders" / "model_files.py"
    spec = importlib.util.spec_from_file_location("fuzz_model_files", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", choices=[[], *(t.name for t in TARGETS)], help="all where none is named"
    )
    parser.add_argument("--count", type=int, help="mutants a target (default: 100,000 GGUF, 25,000 others)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the clock")
    parser.add_argument(
        "--keep", type=Path, default=Path("/tmp/llama-chat-fuzz"), help="folder for failing mutants"
    )
    args = parser.parse_args()
    files = load_model_files()
    failed = 0
    for target in TARGETS:
        if args.targets and target.name not in args.targets:
            continue
        start = time.perf_counter()
        outcome = fuzz(
            target, files, mutate, refuses, count=args.count or target.count, seed=args.seed, keep=args.keep
        )
        print(
            f"{target.name:<16} seed {args.seed}: {outcome.mutants:,} mutants, {outcome.opened:,} opened, "
            f"{len(outcome.failures)} failures, slowest {outcome.slowest_s * 1000:.0f} ms, "
            f"memory {outcome.growth_bytes / 2**20:+.1f} MiB, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        for failure in outcome.failures[:10]:
            print(failure)
        failed += len(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
