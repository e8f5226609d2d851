"""The bandwidth counts bytes that are really read, and is that of the faster way of reading."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.build.variants import VARIANTS, Isa, host_features
from llama_core.roofline import bandwidth
from llama_core.roofline.bandwidth import LINE_BYTES, LINES_AT_ONCE, read_bandwidth, write_read
from llama_core.roofline.instruments import compiled

MEGA = 1e6
RUNNABLE = [isa for isa in VARIANTS.values() if all(host_features().get(f) for f in isa.needs)]


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_every_line_is_read(isa: Isa) -> None:
    unit = LINES_AT_ONCE * LINE_BYTES
    memory = Arena(7 * unit, huge=False).bytes
    memory[:] = np.random.default_rng(0).integers(0, 256, len(memory))
    out = np.zeros(unit, dtype=np.uint8)
    for passes, wanted in ((1, np.bitwise_xor.reduce(memory.reshape(7, unit))), (2, np.zeros(unit))):
        for ahead in (0, 8192):
            compiled(isa, write_read, "read", 5)(address(memory), len(memory), passes, ahead, address(out))
            np.testing.assert_array_equal(out, wanted)


def test_bandwidth_is_of_this_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (1, 2):
        reading = read_bandwidth(threads, passes=2)
        assert 100 * MEGA < reading.bytes_per_s < 10_000_000 * MEGA
        assert reading.buffer_bytes >= 256 * MEGA
        assert (reading.threads, reading.method) == (threads, "compiled loop")
    monkeypatch.setattr(bandwidth, "last_level_cache_bytes", lambda: 50 << 20)
    assert read_bandwidth(1, passes=1).buffer_bytes > 399 * 2**20


def test_the_faster_way_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.5, 0.25])

    def run_together(works: Sequence[Callable[[int], Any]], passes: int) -> float:
        assert (len(works), passes) == (2, 3)
        return next(seconds)

    monkeypatch.setattr(bandwidth, "run_together", run_together)
    reading = read_bandwidth(2, passes=3)
    assert reading.bytes_per_s == reading.buffer_bytes * 3 / 0.25


def test_bandwidth_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    compiled.cache_clear()
    reading = read_bandwidth(1, passes=2)
    assert reading.method == "dot products (BLAS)"
    assert reading.bytes_per_s > 100 * MEGA
