"""The arithmetic ceiling of the compiled backend: int8 multiply-adds per second.

A small kernel does what the matrix kernel of the same variant does to a block of 32 columns of 4-bit weights,
with the same instructions (`kernels/dots.py`: vpdpbusd, sdot, vpmaddubsw and what widens its sums, or what
LLVM makes of plain products) and no fewer sums at once.

Counted are the products and sums alone: numbers stay in registers, weights come unpacked from the first-level
cache, one load for several products. The matrix kernel also unpacks, loads each number, scales every block's
sum and adds the outliers' products, so that it cannot reach 1. AVX2 spends two
instructions on a product and unpacks and loads beside them on the same units, so that loading and unpacking,
not the products, are its true limit; and 8-bit weights cost it twice as much again.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.layout import BLOCK_COLUMNS, PANEL_ROWS
from llama_core.roofline.instruments import compiled, own_isa, run_together

BLOCKS = 400_000  # some 10 to 20 ms
BITS = 4


def integer_peak(threads: int, repeats: int = 5, *, isa: Isa | None = None, blocks: int = BLOCKS) -> float:
    """int8 multiply-adds per second of `threads` threads together: the best run.

    isa: default the one that the compiled backend takes here. Raises ImportError without llvmlite.
    """
    variant = isa or own_isa()
    kernel = compiled(variant, write_peak, "integer_peak", 4)
    memory = _memory(variant, threads)
    works = [functools.partial(kernel, *(address(array) for array in arrays)) for arrays in memory]
    seconds = min(run_together(works, blocks) for _ in range(repeats))
    return threads * blocks * multiply_adds_per_block(variant) / seconds


def shape(isa: Isa) -> tuple[int, int]:
    """How many vectors of weights, each multiplied with how many tokens' numbers: a panel and the largest
    tile, as in the matrix kernel, and twice that where thirty-two wide registers have room, because eight
    chains of sums may leave the units waiting."""
    return max(PANEL_ROWS // isa.lanes, isa.sums // 8), isa.tiles[0]


def multiply_adds_per_block(isa: Isa) -> int:
    """Of one turn of the measured loop."""
    vectors, tokens = shape(isa)
    return vectors * isa.lanes * tokens * BLOCK_COLUMNS


def write_peak(module: Any, isa: Isa) -> None:
    """`integer_peak(words, numbers, totals, blocks)`: words: unpacked weights, for each four columns all
    vectors; numbers: each token's four, in every lane; totals: int32 sums, which grow."""
    from llama_core.backends.jit.kernels.dots import dots_of
    from llama_core.backends.jit.kernels.emit import I32, Code, vector

    code = Code(module, "integer_peak", 4)
    words, numbers, totals, blocks = code.args
    type_, vector_bytes = vector(I32, isa.lanes), 4 * isa.lanes
    vectors, tokens = shape(isa)
    fours = [code.load(type_, numbers + t * vector_bytes) for t in range(tokens)]
    places = [totals + i * vector_bytes for i in range(vectors * tokens)]
    sums = [code.var(code.load(type_, place)) for place in places]
    groups = [sums[v * tokens : (v + 1) * tokens] for v in range(vectors)]
    with code.loop(0, blocks):
        dots = [dots_of(isa)(isa, code, [one.get() for one in group], (1 << BITS) - 1) for group in groups]
        for k in range(BLOCK_COLUMNS // 4):
            for v, dot in enumerate(dots):
                dot.add(code.load(type_, words + (k * vectors + v) * vector_bytes), fours)
            # The weights are loaded anew in every round: what does not change would be computed once.
            code.keep_order()
        for group, dot in zip(groups, dots, strict=True):
            for one, total in zip(group, dot.totals(), strict=True):
                one.set(total)
    for one, place in zip(sums, places, strict=True):
        code.store(one.get(), place)
    code.finish()


Memory = tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int32]]


def _memory(isa: Isa, threads: int) -> list[Memory]:
    """Each thread's weights (0 to 15), numbers (-127 to 127) and sums."""
    rng = np.random.default_rng(0)
    vectors, tokens = shape(isa)
    made = []
    for _ in range(threads):
        words = rng.integers(0, 16, (BLOCK_COLUMNS // 4, vectors, isa.lanes, 4), dtype=np.int8)
        fours = np.repeat(rng.integers(-127, 128, (tokens, 1, 4), dtype=np.int8), isa.lanes, axis=1)
        made.append((words, fours, np.zeros((vectors, tokens, isa.lanes), np.int32)))
    return made
