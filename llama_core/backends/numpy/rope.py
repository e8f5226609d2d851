"""Rotary position embedding (Su et al., arXiv:2104.09864) in the one layout of this engine.

A head's vector is cut into two halves; dimension j of the first half and dimension j of the second are the
two coordinates of a point, which turns by the angle position * frequency[j]:

      head_dim = 8            first half        second half
      x                  [ a0  a1  a2  a3  |  b0  b1  b2  b3 ]

      a0' = a0 cos - b0 sin                 (one turn for each j, slow ones to the right)
      b0' = b0 cos + a0 sin

With x seen as (2, head_dim / 2) this is three array calls, and none of them moves data about first:

      x' = x * cos + x[::-1] * [-sin, +sin]
                     ^ the halves swapped, a view

Where a model turns only the first `rope_dim` dimensions of a head, the rest is copied.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llama_core.config import ModelConfig, RopeScaling

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def rope_frequencies(config: ModelConfig, freq_divisors: F32 | None = None) -> tuple[F64, float]:
    """The angle per position of each pair, and the factor on cos and sin (1 but for yarn).

    Returns ((n_rotated / 2,) float64, float). freq_divisors: a file's own divisors, (n_rotated / 2,); files
    that carry them have worked llama3 scaling into them, so that it is not applied twice.
    """
    half = config.n_rotated // 2
    frequencies: F64 = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    scaling = config.rope_scaling
    if freq_divisors is not None:
        frequencies = frequencies / freq_divisors.astype(np.float64)
        if scaling is not None and scaling.kind == "llama3":
            scaling = None
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling, config.max_seq_len), 1.0
    return _yarn(frequencies, scaling, config)


def _llama3(frequencies: F64, scaling: RopeScaling, max_seq_len: int) -> F64:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, those between blended.

    A wave counts as short when more than `high_freq_factor` of them fit into the trained context, as long
    when fewer than `low_freq_factor` do.
    """
    trained = scaling.original_max_seq_len or max_seq_len
    waves = trained * frequencies / (2 * math.pi)
    width = max(scaling.high_freq_factor - scaling.low_freq_factor, 1e-9)
    keep = np.clip((waves - scaling.low_freq_factor) / width, 0.0, 1.0)
    blended: F64 = frequencies * (keep + (1.0 - keep) / scaling.factor)
    return blended


def _yarn(frequencies: F64, scaling: RopeScaling, config: ModelConfig) -> tuple[F64, float]:
    """YaRN (arXiv:2309.00071): like llama3 with a ramp over the index of the pair, and hotter attention.

    `beta_fast` and `beta_slow` are numbers of turns within the trained context; the pair that makes n turns
    has the (real) index log(trained / (2 pi n)) / log(theta) * half.
    """
    half = len(frequencies)
    trained = scaling.original_max_seq_len or config.max_seq_len

    def pair_of(turns: float) -> float:
        return half * math.log(trained / (2 * math.pi * turns)) / math.log(config.rope_theta)

    first = max(math.floor(pair_of(scaling.beta_fast)), 0)
    last = min(math.ceil(pair_of(scaling.beta_slow)), 2 * half - 1)
    ramp = np.clip((np.arange(half) - first) / max(last - first, 1e-3), 0.0, 1.0)
    blended: F64 = frequencies * (1.0 - ramp + ramp / scaling.factor)
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0
    return blended, factor


class RopeTable:
    """cos and sin of every position up to a capacity, computed in float64 and kept as float32.

    cos: (capacity, 1, 1, n_rotated / 2); sin: (capacity, 1, 2, n_rotated / 2), which holds -sin for the first
    half of a head and +sin for the second. The axis of size 1 stands for the heads.
    """

    def __init__(self, config: ModelConfig, freq_divisors: F32 | None = None) -> None:
        self.frequencies, self.factor = rope_frequencies(config, freq_divisors)
        self.cos: F32
        self.sin: F32
        self._build(0)

    @property
    def capacity(self) -> int:
        """Positions in the table."""
        return len(self.cos)

    @property
    def nbytes(self) -> int:
        return self.cos.nbytes + self.sin.nbytes

    def grow(self, capacity: int) -> None:
        """Make the table reach `capacity` positions."""
        if capacity > self.capacity:
            self._build(capacity)

    def _build(self, capacity: int) -> None:
        angles = np.outer(np.arange(capacity, dtype=np.float64), self.frequencies)
        self.cos = (np.cos(angles) * self.factor).astype(np.float32)[:, None, None]
        sin = (np.sin(angles) * self.factor).astype(np.float32)
        self.sin = np.stack((-sin, sin), axis=1)[:, None]


def rotate(x: F32, cos: F32, sin: F32, turned: F32, crossed: F32) -> None:
    """Turn the heads of x; the result is turned + crossed, which the caller adds where it wants it.

    x, turned, crossed: (n, heads, 2, half); cos: (n, 1, 1, half); sin: (n, 1, 2, half). The sum is left open
    because queries and keys go to different places: one addition each, and no copy.
    """
    np.multiply(x, cos, out=turned)
    np.multiply(x[:, :, ::-1], sin, out=crossed)
