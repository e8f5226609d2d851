"""The angles of rotary positions (Su et al., arXiv:2104.09864), which all backends take from here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Rope
from llama_core.config import RopeScaling

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def rope_frequencies(rope: Rope, freq_divisors: F32 | None = None, capacity: int = 0) -> tuple[F64, float]:
    """The angle per position of each pair, and the factor on cos and sin (1 but for yarn).

    Returns ((n_rotated / 2,) float64, float). freq_divisors: a file's own divisors, (n_rotated / 2,); files
    that carry them have worked llama3 scaling into them, so that it is not applied twice. capacity: positions
    that the cache has room for, by which LongRoPE chooses its factors: all keys of a cache are then rotated
    alike, however long the text in it is (as llama.cpp does; transformers chooses anew when a text outgrows
    the original length, which leaves the keys before in another measure).
    """
    half, scaling = rope.n_rotated // 2, rope.scaling
    frequencies: F64 = rope.theta ** (-np.arange(half, dtype=np.float64) / half)
    if freq_divisors is not None:
        frequencies = frequencies / freq_divisors.astype(np.float64)
        if scaling is not None and scaling.kind == "llama3":
            scaling = None
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "longrope":
        factors = scaling.long_factors if takes_long_factors(rope, capacity) else scaling.short_factors
        return frequencies / np.array(factors), scaling.attention_factor or 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    return _yarn(frequencies, scaling, rope.theta)


def _llama3(frequencies: F64, scaling: RopeScaling) -> F64:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, those between blended.

    A wave counts as short when more than `high_freq_factor` of them fit into the trained context, as long
    when fewer than `low_freq_factor` do.
    """
    waves = scaling.original_max_seq_len * frequencies / (2 * math.pi)
    width = max(scaling.high_freq_factor - scaling.low_freq_factor, 1e-9)
    keep = np.clip((waves - scaling.low_freq_factor) / width, 0.0, 1.0)
    blended: F64 = frequencies * (keep + (1.0 - keep) / scaling.factor)
    return blended


def takes_long_factors(rope: Rope, capacity: int) -> bool:
    """Whether a cache of `capacity` positions is rotated by LongRoPE's long factors."""
    return 0 < original_length(rope) < capacity


def original_length(rope: Rope) -> int:
    """The most positions that LongRoPE's short factors reach; 0 for angles without such factors."""
    scaling = rope.scaling
    return scaling.original_max_seq_len if scaling is not None and scaling.kind == "longrope" else 0


def _yarn(frequencies: F64, scaling: RopeScaling, theta: float) -> tuple[F64, float]:
    """YaRN (arXiv:2309.00071): like llama3 with a ramp over the index of the pair, and hotter attention.

    `beta_fast` and `beta_slow` are numbers of rotations within the trained context; the pair that makes n
    of them has the (real) index log(trained / (2 pi n)) / log(theta) * half.
    """
    half = len(frequencies)
    trained = scaling.original_max_seq_len

    def pair_of(rotations: float) -> float:
        return half * math.log(trained / (2 * math.pi * rotations)) / math.log(theta)

    first, last = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * half - 1)
    ramp = np.clip((np.arange(half) - first) / max(last - first, 1e-3), 0.0, 1.0)
    blended: F64 = frequencies * (1.0 - ramp + ramp / scaling.factor)
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0
    return blended, factor
