"""The three rates of this machine that say how fast a model can be: one of memory, two of arithmetic."""

from __future__ import annotations

import time
from dataclasses import dataclass

from llama_core.blas import BlasThreads
from llama_core.roofline.bandwidth import read_bandwidth
from llama_core.roofline.integer_peak import integer_peak
from llama_core.roofline.roofline import float32_peak

# Rounds go on so long, unless the best two of each rate agree before: other programs disturb a round or two.
MOST_S = 1.5
AGREED = 0.97


@dataclass(frozen=True, slots=True)
class MachineRates:
    """bytes_per_s: of reading memory. integer_per_s, float32_per_s: multiply-adds, of int8 by the compiled
    backend's instructions (0 where that cannot run) and of float32 by the BLAS. All with the same threads."""

    bytes_per_s: float
    integer_per_s: float
    float32_per_s: float


def measure_rates(threads: int) -> MachineRates:
    """The best of some rounds: half a second where the machine has nothing else to do, two where it has."""
    rounds: list[tuple[float, float, float]] = []
    blas = BlasThreads(threads)
    begin = time.perf_counter()
    try:
        while not rounds or (time.perf_counter() - begin < MOST_S and not _agree(rounds)):
            rounds.append((read_bandwidth(threads).bytes_per_s, _integer_peak(threads), float32_peak(2)))
    finally:
        blas.restore()
    return MachineRates(*(max(rates) for rates in zip(*rounds, strict=True)))


def _agree(rounds: list[tuple[float, float, float]]) -> bool:
    """Whether the best two of each rate are as good as the same."""
    best = [sorted(rates)[-2:] for rates in zip(*rounds, strict=True)]
    return bool(best) and all(len(two) == 2 and two[0] >= AGREED * two[1] for two in best)


def _integer_peak(threads: int) -> float:
    try:
        return integer_peak(threads, 2)
    except ImportError:
        return 0.0
