"""The integer peak counts products that are really computed, by the instructions of the matrix kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.build.variants import VARIANTS, Isa, host_features
from llama_core.roofline import integer_peak as module
from llama_core.roofline.instruments import assembly, compiled, own_isa
from llama_core.roofline.integer_peak import (
    _memory,
    integer_peak,
    multiply_adds_per_block,
    shape,
    write_peak,
)

RUNNABLE = [isa for isa in VARIANTS.values() if all(host_features().get(f) for f in isa.needs)]
# What multiplies four numbers in each lane at once; elsewhere LLVM chooses.
INSTRUCTIONS = {"avx512vnni": "vpdpbusd", "avxvnni": "vpdpbusd", "avx2": "vpmaddubsw", "neondot": "sdot"}


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_the_sums_are_the_dot_products_that_are_counted(isa: Isa) -> None:
    blocks = 3
    [(words, fours, totals)] = _memory(isa, 1)
    kernel = compiled(isa, write_peak, "integer_peak", 4)
    kernel(address(words), address(fours), address(totals), blocks)
    # words: (k, vectors, lanes, 4), fours: (tokens, lanes, 4)
    expected = blocks * np.einsum("kvlc,tlc->vtl", words.astype(np.int64), fours.astype(np.int64))
    np.testing.assert_array_equal(totals, expected)
    columns = words.shape[0] * words.shape[-1]
    assert multiply_adds_per_block(isa) == totals.size * columns


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_no_product_is_left_out_of_the_loop(isa: Isa) -> None:
    """What the compiler could compute once, before the loop, would be counted and cost nothing."""
    lines = assembly(isa, write_peak).splitlines()
    [jump] = [n for n, line in enumerate(lines) if re.match(r"\s+(jne|b\.ne)\s", line)]
    label = lines[jump].split()[-1] + ":"
    loop = lines[lines.index(label) : jump]
    vectors, tokens = shape(isa)
    products = 8 * vectors * tokens
    assert len(loop) > products
    if isa.name in INSTRUCTIONS:
        assert sum(INSTRUCTIONS[isa.name] in line for line in loop) == products


def test_the_peak_is_the_best_runs_rate_of_the_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert integer_peak(1, repeats=1, blocks=20_000) > 1e6
    seconds = iter([0.5, 0.25, 1.0])

    def run_together(works: Sequence[Callable[[int], Any]], passes: int) -> float:
        assert (len(works), passes) == (2, 1000)
        return next(seconds)

    monkeypatch.setattr(module, "run_together", run_together)
    peak = integer_peak(2, repeats=3, blocks=1000)
    assert peak == 2 * 1000 * multiply_adds_per_block(own_isa()) / 0.25
