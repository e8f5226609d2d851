"""Instructions, cycles, cache and branch misses for one decoded token, where the machine can count them.

Two runs of a child process, one that generates few tokens and one that generates more, differ by the tokens
alone: start-up, loading and the prompt cancel out. Linux's `perf stat` counts at full speed; where the
machine offers no counters (many virtual ones do not), cachegrind simulates them on a small model, slowly;
it knows no cycles.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llama_core.cpu import CacheLevel, cache_levels
from llama_core.own_code import module_command, module_environment

EVENTS = ("instructions", "cycles", "cache-misses", "branch-misses")
PERF_TOKENS = (32, 96)
CACHEGRIND_TOKENS = (1, 4)
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class CounterProfile:
    """`per_token`: events by name; empty when nothing could be counted. `said`: how it was done, or why not,
    in a sentence."""

    tool: str
    said: str
    backend: str = ""
    model: str = ""
    per_token: dict[str, float] = field(default_factory=dict)


def profile_counters(
    path: Path | None, backend: str, kernel_cache: Path | None = None, *, simulate: bool = True
) -> CounterProfile:
    """Count with perf, else with cachegrind (where `simulate`), else say why nothing was counted."""
    reason = perf_unavailable()
    if reason is None and path is not None:
        worker = _worker({"path": str(path), "backend": backend, "kernel_cache": _text(kernel_cache)})
        counts = _difference(_run_perf, worker, PERF_TOKENS)
        if counts:
            return CounterProfile("perf stat", "counted by the processor", backend, path.name, counts)
        reason = "perf stat gave no counts for the worker process"
    reason = reason or "no model was given"
    if not simulate:
        return CounterProfile("", f"Hardware counters: not measured, because {reason}.")
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        said = f"Hardware counters: not measured, because {reason}, and valgrind is not installed."
        return CounterProfile("", said)
    # Valgrind is some fifty times slower than the processor: a small model is what it can show.
    worker = _worker({"path": "", "backend": backend, "kernel_cache": _text(kernel_cache)})
    counts = _difference(_run_cachegrind, worker, CACHEGRIND_TOKENS)
    if not counts:
        said = f"Hardware counters: not measured, because {reason}, and cachegrind failed."
        return CounterProfile("", said)
    last = simulated_caches(cache_levels()).get("LL", "").partition(",")[0]
    cache = f"a last-level cache of {int(last) / 2**20:g} MiB" if last else "caches of its own guess"
    said = f"Simulated by cachegrind ({cache}, no cycles, no AVX-512, one thread), because {reason}."
    return CounterProfile("cachegrind", said, backend, "stories15M's shape", counts)


def perf_unavailable() -> str | None:
    """None where `perf stat` counts instructions, else the reason."""
    perf = shutil.which("perf")
    if perf is None:
        return "perf is not installed"
    done = subprocess.run(
        [perf, "stat", "-x,", "-e", "instructions", "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        return "perf may not count here (see /proc/sys/kernel/perf_event_paranoid)"
    if "not supported" in done.stderr or "not counted" in done.stderr:
        return "this machine gives no hardware counters to perf"
    return None


def _text(path: Path | None) -> str:
    return str(path) if path else ""


def _worker(request: dict[str, str]) -> Callable[[int], list[str]]:
    def command(n: int) -> list[str]:
        return module_command("llama_core.profiling.profile.counters_worker", json.dumps({**request, "n": n}))

    return command


Run = Callable[[list[str]], dict[str, float]]


def _difference(run: Run, worker: Callable[[int], list[str]], tokens: tuple[int, int]) -> dict[str, float]:
    """Events per token from a short and a long run; empty when either failed."""
    _child(worker(0))  # so that kernels are built before, and not in the first of the two alone
    few, many = (run(worker(n)) for n in tokens)
    return {
        name: (many[name] - few[name]) / (tokens[1] - tokens[0])
        for name in few
        if name in many and few[name] > 0
    }


def _child(command: list[str]) -> str | None:
    """The child's stderr, where both tools report; None when it failed or took too long. One BLAS thread:
    a second one spins while it waits, and its instructions would count."""
    environment = {**module_environment(), "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stderr if done.returncode == 0 else None


def _run_perf(command: list[str]) -> dict[str, float]:
    report = _child(["perf", "stat", "-x,", "-e", ",".join(EVENTS), *command])
    return parse_perf(report) if report is not None else {}


def parse_perf(report: str) -> dict[str, float]:
    """`value,unit,event,...` lines of `perf stat -x,`; what was not counted is left out."""
    counts = {}
    for line in report.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdecimal():
            name = fields[2].partition(":")[0]
            if name in EVENTS:
                counts[name] = float(fields[0])
    return counts


def simulated_caches(levels: Sequence[CacheLevel]) -> dict[str, str]:
    """This machine's first and last caches as cachegrind takes them, "size,ways,line" by option; it would
    guess otherwise, a last one of 256 MiB for instance. It knows only numbers of sets that are powers of two,
    so that a size may be the nearest of these. Empty for what the system does not tell.
    """
    first = {cache.kind: cache for cache in levels if cache.level == 1}
    last = levels[-1] if levels and levels[-1].level > 1 else None
    wanted = {"I1": first.get("Instruction"), "D1": first.get("Data"), "LL": last}
    options = {}
    for name, cache in wanted.items():
        if cache is not None and cache.ways and cache.line_bytes and cache.size_bytes:
            sets = 1 << round(math.log2(cache.size_bytes / (cache.ways * cache.line_bytes)))
            size = sets * cache.ways * cache.line_bytes
            options[name] = f"{size},{cache.ways},{cache.line_bytes}"
    return options


def _run_cachegrind(command: list[str]) -> dict[str, float]:
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", "--branch-sim=yes"]
    tool += [f"--{name}={given}" for name, given in simulated_caches(cache_levels()).items()]
    report = _child([*tool, "--cachegrind-out-file=/dev/null", *command])
    return parse_cachegrind(report) if report is not None else {}


_CACHEGRIND_NAMES = {
    "I refs": "instructions",
    # Valgrind takes a vector from memory as several loads in some instructions (fused multiply-add: one a
    # number), so that this is no count of the program's own loads.
    "D refs": "data accesses, vectors split",
    "D1 misses": "L1 data misses",
    "LL misses": "last-level misses",
    "Mispredicts": "branch-misses",
}


def parse_cachegrind(report: str) -> dict[str, float]:
    """`==pid== I refs: 1,234` lines of cachegrind's summary."""
    counts = {}
    for line in report.splitlines():
        text = line.split("== ", 1)[-1]
        name, _, rest = text.partition(":")
        words = rest.split()
        name = " ".join(name.split())
        if name in _CACHEGRIND_NAMES and words and words[0].replace(",", "").isdecimal():
            counts[_CACHEGRIND_NAMES[name]] = float(words[0].replace(",", ""))
    return counts
