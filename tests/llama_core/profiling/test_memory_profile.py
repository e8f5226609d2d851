"""The account of memory adds up, and steps say what they take."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import memory as memory_profile
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


def test_each_step_says_what_it_takes(engine: TextEngine) -> None:
    profile = profile_memory(engine, resident_now(), prompt_n=32, generated_n=4)
    prefill, decode = profile.steps
    assert [(step.name, step.tokens) for step in profile.steps] == [("prefill", 32), ("decode", 1)]
    for step in profile.steps:
        assert step.peak_bytes >= step.kept_bytes
    # Buffers are made once: a decode step allocates views and small objects, never a matrix.
    assert 0 < decode.peak_bytes < 64 * 1024
    assert (
        f"One prefill pass of 32 tokens took {prefill.peak_bytes:,} bytes" in memory_section(profile).markdown
    )


def test_what_is_free_again_at_the_end_is_counted_too() -> None:
    kept: list[bytearray] = []

    def step() -> None:
        kept.append(bytearray(50_000))
        bytearray(300_000)

    peak, left = memory_profile._peak(step)
    assert 350_000 <= peak < 355_000
    assert 50_000 <= left < 55_000
    assert not tracemalloc.is_tracing()


def test_a_long_prompt_is_watched_for_one_pass(engine: TextEngine) -> None:
    names = list(memory_profile._passes(engine, [1] * 200, 3))
    assert names == [("prefill", 200), ("first token", 0), ("decode", 1), ("decode", 1), ("decode", 1)]


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
