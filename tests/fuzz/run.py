"""The fuzzer: mutants of each seed, one after another, each opened as the app would open it.

A mutant passes when it opens or is refused with ModelFormatError, within a second, and the process's
peak memory may not grow by 64 MiB. A mutant that fails is kept in a file, for a permanent test.
"""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core.profiling.machine import peak_bytes

MAX_SECONDS = 1.0
MAX_GROWTH = 64 << 20


@dataclass
class Outcome:
    """What became of a target's mutants."""

    mutants: int = 0
    opened: int = 0
    slowest_s: float = 0.0
    growth_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def reset_peak() -> None:
    """Start the peak anew at the present size, where the system can: one reached earlier would hide a
    target's growth."""
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def fuzz(
    target: Any,
    mutate: Callable[..., bytes],
    refuses: Callable[..., bool],
    *,
    count: int,
    seed: int,
    keep: Path | None = None,
) -> Outcome:
    """Open `count` mutants of the target's seeds. keep: a folder for those that fail."""
    rng = random.Random(f"{target.name} {seed}")
    outcome = Outcome()
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base, prefix="fuzz-") as name:
        folder = Path(name)
        seeds = target.make_seeds(folder)
        path = folder / target.place
        for one in seeds:  # a seed that does not open would make every mutant a trivial case
            path.write_bytes(one.content)
            target.open_file(path)
        reset_peak()
        before = peak_bytes()
        for number in range(count):
            one = rng.choice(seeds)
            mutant = mutate(rng, one.content, one.header, json_text=one.json_text)
            path.write_bytes(mutant)
            start = time.process_time()
            problem = ""
            try:
                outcome.opened += not refuses(target.open_file, path)
            except BaseException as error:  # anything at all is a finding, MemoryError and RecursionError too
                if isinstance(error, KeyboardInterrupt):
                    raise
                problem = traceback.format_exc(limit=-3)
            elapsed = time.process_time() - start  # of the processor: other programs run beside a test
            outcome.slowest_s = max(outcome.slowest_s, elapsed)
            if elapsed > MAX_SECONDS and not problem:
                problem = f"took {elapsed:.2f} s"
            outcome.mutants += 1
            if problem:
                outcome.failures.append(
                    f"{target.name} mutant {number} of seed {seed} ({one.name}): {problem}"
                )
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{target.name}-{seed}-{number}").write_bytes(mutant)
        outcome.growth_bytes = peak_bytes() - before
    if outcome.growth_bytes > MAX_GROWTH:
        outcome.failures.append(f"{target.name}: the process grew by {outcome.growth_bytes:,} bytes")
    return outcome
