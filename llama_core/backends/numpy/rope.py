"""Rotary positions in the one layout of this engine.

A head's vector is cut into two halves; dimension j of the first half and dimension j of the second are the
two coordinates of a point, which is rotated by the angle position * frequency[j]:

      head_dim = 8            first half        second half
      x                  [ a0  a1  a2  a3  |  b0  b1  b2  b3 ]

      a0' = a0 cos - b0 sin                 (one angle for each j, small ones to the right)
      b0' = b0 cos + a0 sin

With x seen as (2, head_dim / 2) this is three array calls, and none of them moves data about first:

      x' = x * cos + x[::-1] * [-sin, +sin]
                     ^ the halves swapped, a view
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.base import Rope
from llama_core.architectures.rope import rope_frequencies

F32 = NDArray[np.float32]


class RopeTable:
    """cos and sin of every position of a cache, computed in float64 and kept as float32.

    cos: (capacity, 1, 1, n_rotated / 2); sin: (capacity, 1, 2, n_rotated / 2), which holds -sin for the first
    half of a head and +sin for the second. The axis of size 1 stands for the heads.
    """

    def __init__(self, rope: Rope, freq_divisors: F32 | None, capacity: int) -> None:
        frequencies, factor = rope_frequencies(rope, freq_divisors, capacity)
        angles = np.outer(np.arange(capacity, dtype=np.float64), frequencies)
        self.cos: F32 = (np.cos(angles) * factor).astype(np.float32)[:, None, None]
        sin = (np.sin(angles) * factor).astype(np.float32)
        self.sin: F32 = np.stack((-sin, sin), axis=1)[:, None]

    @property
    def nbytes(self) -> int:
        """Memory of both tables."""
        return self.cos.nbytes + self.sin.nbytes

    def rows(self, start: int, stop: int) -> tuple[F32, F32]:
        """cos and sin of positions start..stop, in the memory order of `scratch.feature_major`: in the
        other a prefill of stories15M's shape takes 5 % longer."""
        return np.asarray(self.cos[start:stop], order="F"), np.asarray(self.sin[start:stop], order="F")


def rotate(x: F32, cos: F32, sin: F32) -> None:
    """Turn the heads of x in place; what is beyond the tables' n_rotated stays.

    x: (n, heads, head_dim); cos: (n, 1, 1, half); sin: (n, 1, 2, half).
    """
    n, heads, half = x.shape[0], x.shape[1], cos.shape[-1]
    halves = x[..., : 2 * half].reshape(n, heads, 2, half, copy=False)
    crossed = halves[:, :, ::-1] * sin
    np.multiply(halves, cos, out=halves)
    np.add(halves, crossed, out=halves)
