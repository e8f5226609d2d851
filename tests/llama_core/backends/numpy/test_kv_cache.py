"""The cache's arithmetic, and that it is refused before memory is taken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core import memory as system_memory
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.errors import ContextFullError, NotEnoughMemoryError
from llama_core.profiling.profile.memory import resident_part


def test_a_new_cache_is_empty_float32_and_counts_its_bytes(make_toy: Callable[..., Any]) -> None:
    cache = KVCache(make_toy().config, 100)
    assert (cache.length, cache.capacity) == (0, 100)
    assert cache.keys.dtype == cache.values.dtype == np.float32
    assert cache.nbytes == cache.keys.nbytes + cache.values.nbytes
    assert cache.nbytes >= 2 * 3 * 2 * 100 * 8 * 4


def test_advance_and_truncate(make_toy: Callable[..., Any]) -> None:
    cache = KVCache(make_toy().config, 10)
    cache.advance(7)
    cache.truncate(4)
    assert cache.length == 4
    cache.truncate(4)
    for wrong in (5, -1):
        with pytest.raises(ValueError, match="truncate"):
            cache.truncate(wrong)
    with pytest.raises(ContextFullError, match="11 tokens are needed but the context holds 10"):
        cache.advance(7)
    assert cache.length == 4


def test_a_cache_larger_than_memory_is_refused_before_it_is_made(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_toy().config
    monkeypatch.setattr(system_memory, "available_bytes", lambda: 50_000)
    monkeypatch.setattr(np, "zeros", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(NotEnoughMemoryError, match=r"KV cache of 4,096 tokens needs .* available") as caught:
        KVCache(config, 4096)
    assert caught.value.needed_bytes == 2 * 3 * 2 * 4096 * 8 * 4
    assert caught.value.available_bytes == 50_000
    assert "num_ctx" in str(caught.value)


def test_an_absurd_cache_is_refused_on_this_very_machine(make_toy: Callable[..., Any]) -> None:
    with pytest.raises(NotEnoughMemoryError):
        KVCache(make_toy().config, 1 << 45)


def cgroup(folder: Path, limit: str, usage: str, stat: str, version: int = 2) -> None:
    """The files of a control group, as the kernel shows them."""
    names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip((*names[version], "memory.stat"), (limit, usage, stat), strict=True):
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("limit", "usage", "stat", "expected"),
    [
        ("1000000", "400000", "inactive_file 100000\nactive_file 50000", 750_000),
        ("1000000", "2000000", "inactive_file 0", 0),
        ("max", "1", "", None),
        ("9223372036854771712", "1", "inactive_file 0", None),
    ],
)
def test_the_cgroup_limits_what_is_available(
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    usage: str,
    stat: str,
    expected: int | None,
) -> None:
    cgroup(tmp_path / "sys/fs/cgroup", limit, usage, stat)
    monkeypatch.setattr(system_memory, "ROOT", tmp_path)
    available = system_memory.available_bytes()
    assert available == expected if expected is not None else available > 1_000_000


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_an_inner_cgroup_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    mount = tmp_path / ("sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/memory")
    cgroup(mount / "user", "3000", "1000", "inactive_file 0", version)
    cgroup(mount / "user/shell", "9000", "1000", "inactive_file 0", version)
    (tmp_path / "proc/self").mkdir(parents=True)
    line = "0::/user/shell" if version == 2 else "4:cpu:/elsewhere\n7:memory,hugetlb:/user/shell"
    (tmp_path / "proc/self/cgroup").write_text(line + "\n")
    monkeypatch.setattr(system_memory, "ROOT", tmp_path)
    assert system_memory.available_bytes() == 2000


def test_resident_bytes_is_plausible() -> None:
    assert 10_000_000 < system_memory.resident_bytes() < 1 << 40


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells which pages are in memory")
def test_a_few_positions_take_a_few_pages(make_toy: Callable[..., Any]) -> None:
    """Of every head's run only its beginning, however long the run is."""
    cache = KVCache(make_toy().config, 32768)
    written = 0
    for array in (cache.keys, cache.values):
        array[:, :, :64] = 1.0
        written += array[:, :, :64].nbytes
    assert written <= resident_part([cache.keys, cache.values]) <= 4 * written < cache.nbytes / 100
