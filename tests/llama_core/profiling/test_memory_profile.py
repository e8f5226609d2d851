"""The account of memory adds up, and every line that allocates is named."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import memory as memory_profile
from llama_core.profiling.profile.allocation_sites import allocation_sites
from llama_core.profiling.profile.memory import mapped_file_bytes, profile_memory, resident_now, resident_part
from llama_core.profiling.profile.sections import memory_section


@pytest.mark.parametrize("backend", ["engine", "compiled"])
def test_the_account_adds_up_and_counts_the_context(backend: str, request: pytest.FixtureRequest) -> None:
    engine: TextEngine = request.getfixturevalue(backend)
    config = engine.model.config
    profile = profile_memory(engine, resident_now(), prompt_n=100, generated_n=29)
    account = profile.account
    assert profile.context_n == 128  # the last token drawn is not computed
    assert account.kv_used_bytes == 128 * 2 * 4 * config.n_layers * config.kv_dim
    assert account.weights_bytes > 4 * config.dim * config.hidden_dim
    assert account.scratch_bytes > 0
    parts = (
        profile.before_bytes,
        account.weights_bytes,
        account.kv_used_bytes,
        profile.kv_page_bytes,
        account.scratch_bytes,
        profile.file_bytes,
        profile.rest_bytes,
    )
    assert sum(parts) == account.resident_bytes
    text = memory_section(profile).markdown
    assert "KV cache: 128 positions in use" in text
    assert ("packed weights" in text) == (backend == "compiled")


def test_each_step_names_its_lines(engine: TextEngine) -> None:
    profile = profile_memory(engine, resident_now(), prompt_n=32, generated_n=4, top=1000)
    prefill, decode = profile.steps
    assert [(step.name, step.tokens) for step in profile.steps] == [("prefill", 32), ("decode", 1)]
    n_layers = engine.model.config.n_layers
    for step in profile.steps:
        assert step.n_sites == len(step.sites) > 20
        assert step.count == sum(site.count for site in step.sites)
        assert step.n_bytes == sum(site.n_bytes for site in step.sites) > step.kept_bytes
        functions = {site.function for site in step.sites}
        assert {"Llama._pass", "attend"} <= functions
        assert not any("profiling/" in site.place for site in step.sites)
    # A line of a layer allocates in every layer, a line of a pass once.
    counts = {site.function: site.count for site in decode.sites}
    assert counts["exp_shifted"] == n_layers
    assert counts["Llama._pass"] < n_layers
    assert any(site.place.startswith("llama_core/backends/numpy/attention.py:") for site in prefill.sites)
    # Buffers are made once: a decode step allocates views and small objects, never a matrix.
    assert 0 < decode.peak_bytes < 64 * 1024
    text = memory_section(profile).markdown
    assert "One prefill pass of 32 tokens" in text
    assert f"| {prefill.sites[0].place} | {prefill.sites[0].function} | " in text


def test_a_long_prompt_is_watched_for_one_pass(engine: TextEngine) -> None:
    names = list(memory_profile._passes(engine, [1] * 200, 3))
    assert names == [("prefill", 200), ("first token", 0), ("decode", 1), ("decode", 1), ("decode", 1)]


def allocating(n: int) -> int:
    kept = bytearray(100_000)
    del kept
    for _ in range(n):
        bytes(5_000)
    small = np.zeros(1000)
    view = small[1:]
    return helper(2_000) + len(view)


def helper(n: int) -> int:
    return len(bytes(n))


def test_what_is_free_again_at_the_end_is_counted_too() -> None:
    sites, result = allocation_sites(lambda: allocating(3), ignored=("nobody's file",))
    assert result == 2_999
    first = allocating.__code__.co_firstlineno
    found = {
        (site.function, int(site.place.rpartition(":")[2]) - first): (site.count, site.n_bytes)
        for site in sites
        if Path(__file__).name in site.place
    }
    assert found["allocating", 1] == (1, sys.getsizeof(bytearray(100_000)))
    assert found["allocating", 4] == (3, 3 * sys.getsizeof(bytes(5_000)))
    assert found["helper", helper.__code__.co_firstlineno + 1 - first] == (
        1,
        pytest.approx(sys.getsizeof(bytes(2_000)), abs=64),
    )
    assert found["allocating", 5][0] == 1
    assert found["allocating", 5][1] == pytest.approx(8_000 + sys.getsizeof(np.zeros(0)), abs=200)
    assert found["allocating", 6][1] < 400
    assert ("allocating", 2) not in found  # `del` takes nothing
    assert sites == sorted(sites, key=lambda site: (-site.n_bytes, site.place))


def test_watching_leaves_nothing_behind() -> None:
    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError):
        allocation_sites(lambda: 1 // 0)
    assert sys.gettrace() is before
    assert not tracemalloc.is_tracing()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells which pages are resident")
def test_pages_count_once_they_are_touched(tmp_path: Path) -> None:
    import mmap

    memory = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    array = np.frombuffer(memory, np.uint8)
    assert resident_part([array]) == 0
    memory[10 * mmap.PAGESIZE] = 1
    assert resident_part([array]) == mmap.PAGESIZE
    file = tmp_path / "file"
    file.write_bytes(bytes(16 * mmap.PAGESIZE))
    assert mapped_file_bytes(file) == 0
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        sum(mapped[:: mmap.PAGESIZE])
        assert mapped_file_bytes(file) == 16 * mmap.PAGESIZE
