"""Experiment 1: ways to rotate pairs of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.rope import rotate
from llama_core.profiling.first_version.model import apply_rope, rope_tables
from llama_core.profiling.lab.experiment import Case, Check, Experiment, LabContext, Match, Part, arrays_match

F32 = NDArray[np.float32]
Pair = tuple[F32, F32]

# (batch, seq, heads, head_dim): stories15M prompts, batches of them, and one token of the default model.
SHAPES = ((1, 256, 6, 48), (32, 256, 6, 48), (16, 128, 6, 48), (1, 1, 9, 64))


def sliced(x: F32, cos: F32, sin: F32) -> F32:
    """Neighbours (2j, 2j + 1) taken and stored with a stride of two; tables (seq, 1, half)."""
    out = np.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


class InPlace:
    """The same with every intermediate in a buffer made beforehand."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        half = (*shape[:-1], shape[-1] // 2)
        self.out: F32 = np.empty(shape, np.float32)
        self.scratch: F32 = np.empty(half, np.float32)

    def __call__(self, x: F32, cos: F32, sin: F32) -> F32:
        """x: as for the form before; the result stands in a buffer that the next call overwrites."""
        even, odd = x[..., 0::2], x[..., 1::2]
        out_even, out_odd = self.out[..., 0::2], self.out[..., 1::2]
        np.multiply(even, cos, out=out_even)
        np.multiply(odd, sin, out=self.scratch)
        np.subtract(out_even, self.scratch, out=out_even)
        np.multiply(even, sin, out=out_odd)
        np.multiply(odd, cos, out=self.scratch)
        np.add(out_odd, self.scratch, out=out_odd)
        return self.out


def as_complex(x: F32, rotations: NDArray[np.complex64]) -> F32:
    """A pair is a complex number and a rotation a product; rotations: (seq, 1, half) complex64."""
    product: F32 = (x.view(np.complex64) * rotations).view(np.float32)
    return product


class Halves:
    """The engine's form: the halves of a head are the pairs, rotated where they stand."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = (shape[0] * shape[1], shape[2], shape[3])
        self.out: F32 = np.empty(self.shape, np.float32)

    def __call__(self, x: F32, cos: F32, signed_sin: F32) -> F32:
        """x in the same order as for the others; the result stands in a buffer of its own shape."""
        self.out[...] = x.reshape(self.shape)  # a copy that the engine does without
        rotate(self.out, cos, signed_sin)
        return self.out


WHY = {
    "slicing": "strided views instead of split and squeeze, and one result instead of a stack of two; the "
    "arithmetic is the same, over every second number",
    "in place": "nothing is allocated: a large new array costs a page fault for each 4 KiB",
    "complex": "one complex product instead of four real ones, two sums and a stack: a sixth of the passes "
    "over memory",
    "engine (halves)": "halves lie side by side, so that all four products run over whole vectors, into "
    "buffers made before",
}
# Where a model rotates arrays of these shapes: in each layer once.
PARTS = {
    SHAPES[0]: Part(("RoPE",), 6, "prefill", tokens=255),
    SHAPES[-1]: Part(("RoPE",), 30, "decode", "default"),
}


def to_halves(x: F32) -> F32:
    """Neighbours (2j, 2j + 1) to positions j and j + head_dim / 2."""
    return np.ascontiguousarray(np.concatenate((x[..., 0::2], x[..., 1::2]), axis=-1))


def from_halves(x: F32, shape: tuple[int, ...]) -> F32:
    """The way back from `to_halves`, to `shape` (batch, seq, heads, head_dim)."""
    halves = x.reshape(*shape[:-1], 2, shape[-1] // 2)
    return np.ascontiguousarray(halves.swapaxes(-1, -2)).reshape(shape)


def variants(shape: tuple[int, ...], q: F32, k: F32, cos: F32, sin: F32) -> dict[str, Callable[[], Pair]]:
    """Every "after" for one shape, each answering (q, k) in neighbours' order."""
    wide_cos, wide_sin = cos[:, None, :], sin[:, None, :]
    in_place = InPlace(shape), InPlace(shape)
    rotations = (wide_cos + 1j * wide_sin).astype(np.complex64)
    halves = Halves(shape), Halves(shape)
    q_halves, k_halves = to_halves(q), to_halves(k)
    engine_cos = np.tile(cos, (shape[0], 1))[:, None, None, :]
    engine_sin = np.tile(np.stack((-sin, sin), axis=1), (shape[0], 1, 1))[:, None]
    return {
        "slicing": lambda: (sliced(q, wide_cos, wide_sin), sliced(k, wide_cos, wide_sin)),
        "in place": lambda: (in_place[0](q, wide_cos, wide_sin), in_place[1](k, wide_cos, wide_sin)),
        "complex": lambda: (as_complex(q, rotations), as_complex(k, rotations)),
        "engine (halves)": lambda: (
            halves[0](q_halves, engine_cos, engine_sin),
            halves[1](k_halves, engine_cos, engine_sin),
        ),
    }


def pairs_match(shapes: tuple[tuple[int, ...], tuple[int, ...]], *, halves: bool) -> Check:
    """Compare (q, k) of these shapes; the engine's halves are put back into neighbours' order first, outside
    the clock."""
    compare = arrays_match(1e-5)

    def check(before: Pair, after: Pair) -> Match:
        if halves:
            after = (from_halves(after[0], shapes[0]), from_halves(after[1], shapes[1]))
        return compare(*(np.concatenate([x.ravel() for x in pair]) for pair in (before, after)))

    return check


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        q = rng.standard_normal(shape, dtype=np.float32)
        k = rng.standard_normal(shape, dtype=np.float32)
        tables = rope_tables(shape[-1], shape[1] + 7, 10000.0)
        cos, sin = (np.ascontiguousarray(table[7:], dtype=np.float32) for table in tables)
        for name, after in variants(shape, q, k, cos, sin).items():
            yield Case(
                name=f"{shape} {name}",
                before=partial(apply_rope, q, k, cos, sin),
                after=after,
                check=pairs_match((shape, shape), halves=name.startswith("engine")),
                headline=shape in (SHAPES[0], SHAPES[-1]) and name != "slicing",
                budget_s=context.budget_s / 3,
                why=WHY[name],
                part=PARTS.get(shape),
            )


EXPERIMENT = Experiment(
    number=1,
    name="rope",
    title="RoPE: stack and reshape against forms that move less data",
    hypothesis="Splitting, squeezing and stacking cost more than the rotation itself; slices, buffers made "
    "beforehand, complex numbers or halves as pairs avoid it and are faster at every shape",
    refuted_if="a form is slower than stack and reshape at any shape, or rotates differently (by more than "
    "1e-5 of the largest value)",
    cases=cases,
    processes=3,
)
