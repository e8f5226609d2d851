"""`python -m tests.fuzz [TARGET ...] [--count N] [--seed S] [--keep FOLDER]`, from the repository's root."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from tests.fuzz.mutate import mutate
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, refuses


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
    logging.disable(logging.WARNING)  # mutants that open are full of what is told
    failed = 0
    for target in TARGETS:
        if args.targets and target.name not in args.targets:
            continue
        start = time.perf_counter()
        outcome = fuzz(
            target, mutate, refuses, count=args.count or target.count, seed=args.seed, keep=args.keep
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
