"""The memory of a pass: float32 buffers that are made once, and the order in which products read them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class Scratch:
    """Float32 buffers by name that only grow: after the first pass none of a model's size is allocated.

    What a name held is lost when it is asked for again.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, F32] = {}

    @property
    def nbytes(self) -> int:
        """Memory of all buffers, as large as they have grown."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def flat(self, name: str, size: int) -> F32:
        """The buffer's first values, (size,) float32, uninitialised where it is new."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype=np.float32)
        return buffer[:size]

    def __call__(self, name: str, *shape: int) -> F32:
        """The buffer as an array in C order."""
        return self.flat(name, math.prod(shape)).reshape(shape)

    def rows(self, name: str, n: int, dim: int) -> F32:
        """The buffer as (n, dim), see `feature_major`."""
        return feature_major(self.flat(name, n * dim), n, dim)


def feature_major(buffer: F32, n: int, dim: int) -> F32:
    """The front of a flat buffer as (n, dim) whose columns, not rows, lie in one run of memory.

    `ops.linear` forms out.T = weight @ x.T, with out.T and x.T in C order. OpenBLAS repacks the whole of its
    second matrix at every call, which for few tokens costs more than the product, so that x takes that place.
    With row-major buffers a prefill takes longer: 256 tokens of the default model 7 to 10 %, 200 of
    stories15M's shape 13 %, and a pass of 2 tokens 46 ms instead of 32.
    """
    return buffer[: n * dim].reshape(dim, n).T
