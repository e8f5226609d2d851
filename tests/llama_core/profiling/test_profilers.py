"""The profilers measure what happens and leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llama_core import heads, model, sampling
from llama_core.checkpoint import Checkpoint
from llama_core.engine.text import TextEngine
from llama_core.model import Llama
from llama_core.profiling import bytecode, charts, counters, inference_profile, kernel_mix, profile_report
from llama_core.profiling.machine import describe_machine
from llama_core.profiling.memory_profile import profile_memory, resident_now
from llama_core.profiling.op_timers import OpTimers, timed_operations
from llama_core.profiling.profile_text import (
    Bars,
    Section,
    bytecode_section,
    counters_section,
    memory_section,
    terminal_bars,
)
from llama_core.weights import load_weights


@pytest.fixture
def engine(toy_checkpoint: Checkpoint) -> Iterator[TextEngine]:
    made = TextEngine(toy_checkpoint, Llama(toy_checkpoint.config, load_weights(toy_checkpoint)))
    yield made
    made.close()


def wrapped() -> list[object]:
    return [
        model.linear,
        model.rms_norm,
        heads.rotate,
        model.Llama._attend,
        model.Llama._pass,
        sampling.Sampler.draw,
    ]


def test_every_second_is_counted_once_and_by_layer(engine: TextEngine) -> None:
    originals = wrapped()
    with timed_operations() as timers:
        assert wrapped() != originals
        inference_profile.generate(engine.engine, list(range(40)), 5)
    assert wrapped() == originals
    n_layers = engine.model.config.n_layers
    passes = 5  # the prompt, and each token but the last
    assert timers.calls["RoPE"] == passes * n_layers
    assert (
        timers.calls["attention products"] == timers.calls["feed-forward products"] == 2 * passes * n_layers
    )
    assert timers.calls["norm"] == passes * (2 * n_layers + 1)
    assert timers.calls["sampler"] == 5
    for operation in ("attention", "feed-forward", "RoPE"):
        assert sorted(timers.by_layer(operation)) == list(range(n_layers))
    assert list(timers.by_layer("head")) == [-1]
    rows = inference_profile.operation_rows(timers)
    assert sum(row.percent for row in rows) == pytest.approx(100)


def test_timers_are_removed_after_a_failure(engine: TextEngine) -> None:
    originals = wrapped()
    with pytest.raises(ValueError, match="token ids"), timed_operations():
        engine.model.forward(np.array([9999], np.int32), engine.model.new_cache(4))
    assert wrapped() == originals


def test_time_inside_another_operation_is_not_counted_twice() -> None:
    timers = OpTimers()
    inner = timers.wrap("inner", lambda: sum(range(20_000)))
    outer = timers.wrap("outer", lambda: [inner() for _ in range(20)])
    outer()
    assert timers.total("inner") > 5 * timers.total("outer")
    assert timers.calls == {"inner": 20, "outer": 1}


def test_memory_is_accounted_for(engine: TextEngine) -> None:
    profile = profile_memory(engine, resident_now(), prompt_n=32)
    assert [step.tokens for step in profile.steps] == [32, 1]
    prefill, decode = profile.steps
    assert prefill.lines
    assert decode.peak_bytes > 0
    # Buffers are made once: a decode step allocates views and small objects, never a matrix.
    assert decode.peak_bytes < 64 * 1024
    account = profile.account
    explained = account.weights_bytes + account.kv_used_bytes + account.scratch_bytes + account.mapped_bytes
    assert profile.before_bytes + explained + profile.unaccounted_bytes == account.resident_bytes
    assert "weights" in memory_section(profile).markdown


def test_bytecode_is_counted_as_python_compiles_it() -> None:
    def sample(x: list[int]) -> object:
        return sorted(x, key=lambda n: n.bit_length(), reverse=True)

    found = bytecode.count("sample", sample.__code__)
    assert found.keyword_calls == 1
    assert found.attribute_loads >= 1  # inside the lambda
    assert found.instructions == sum(found.opcodes.values())
    profile = bytecode.profile_bytecode()
    names = {function.name for function in profile.engine}
    assert {"model.Llama.forward", "ops.rms_norm", "sampling.Sampler.draw"} <= names
    assert {"baseline.apply_rope", "baseline.Attention.__call__"} <= {f.name for f in profile.baseline}
    section = bytecode_section(profile)
    assert "engine" in section.markdown
    assert all(chart.values for chart in section.charts)


PERF = """
1200,,instructions,100.00,100.00,,
<not supported>,,cycles,0,100.00,,
55,,cache-misses:u,100.00,100.00,,
"""
CACHEGRIND = """
==12== I   refs:      1,234,567
==12== D   refs:        456  (400 rd   + 56 wr)
==12== D1  misses:       12  (  8 rd   +  4 wr)
==12== LL misses:         3  (  2 rd   +  1 wr)
==12== Mispredicts:      99  (90 cond + 9 ind)
"""


def test_reports_of_the_counting_tools_are_read() -> None:
    assert counters.parse_perf(PERF) == {"instructions": 1200.0, "cache-misses": 55.0}
    assert counters.parse_cachegrind(CACHEGRIND) == {
        "instructions": 1_234_567.0,
        "data accesses of 8 bytes": 456.0,
        "L1 data misses": 12.0,
        "last-level misses": 3.0,
        "branch-misses": 99.0,
    }


def test_counts_per_token_are_what_longer_runs_add() -> None:
    runs = {4: {"instructions": 1000.0, "cycles": 10.0}, 12: {"instructions": 1800.0, "cycles": 90.0}}
    found = counters._difference(lambda command: runs[int(command[0])], lambda n: [str(n)], (4, 12))
    assert found == {"instructions": 100.0, "cycles": 10.0}
    assert counters._difference(lambda command: {}, lambda n: [str(n)], (4, 12)) == {}


def test_without_counters_a_sentence_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters.shutil, "which", lambda name: None)
    found = counters.profile_counters(Path("model.gguf"), "numpy")
    assert found.per_token == {}
    assert found.said == (
        "Hardware counters: not measured, because perf is not installed, and valgrind is not installed."
    )
    assert "not measured" in counters_section(found, "none here", []).markdown


ASSEMBLY = """
\t.text
dot:
.LBB0_1:
\tvmovdqu64\t(%rdi), %zmm0
\tvpdpbusd\t%zmm1, %zmm2, %zmm3
\tvfmadd231ps\t%zmm1, %zmm2, %zmm3
\taddq\t$64, %rdi
\tjne\t.LBB0_1
\tretq
other:
\tretq
"""


def test_the_mix_of_an_assembly_is_counted_by_function() -> None:
    mixes = kernel_mix.parse_assembly(ASSEMBLY)
    assert [(mix.name, mix.instructions) for mix in mixes] == [("dot", 6), ("other", 1)]
    assert mixes[0].kinds == {
        "vector move": 1,
        "integer dot product": 1,
        "fused multiply-add": 1,
        kernel_mix.OTHER: 1,
        "branch and call": 2,
    }


def test_this_machines_kernels_do_integer_dot_products() -> None:
    variant, kernels = kernel_mix.profile_kernels()
    if not kernels:
        pytest.skip(variant)
    matmuls = [kernel for kernel in kernels if kernel.name.startswith("matmul")]
    assert matmuls
    if variant != "portable":
        assert all(kernel.kinds.get("integer dot product") for kernel in matmuls if "q4" in kernel.name)


def test_a_report_folder_holds_data_text_and_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts.importlib.util, "find_spec", lambda name: None)
    bars = Bars("b", "Times", "s", (("one", 1.0), ("two", 2.0)))
    profiles = {"kind": (bars, {1: 2})}
    files = profile_report.write_report(
        tmp_path / "r", describe_machine(), profiles, [Section("S", "text\n", (bars,))]
    )
    assert [file.name for file in files] == ["report.json", "report.md"]
    data = json.loads(files[0].read_text())
    assert data["profiles"]["kind"][1] == {"1": 2}
    text = files[1].read_text()
    assert "## S" in text
    assert terminal_bars(bars).splitlines()[2].count("#") == 40
    assert terminal_bars(bars).rstrip() in text


def test_charts_are_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    reason = charts.charts_available()
    if reason is not None:
        pytest.skip(reason)
    (file,) = charts.draw([Bars("b", "Times", "s", (("one", 1.0), ("two", 2.0)))], tmp_path)
    assert file.name == "b.svg"
    assert "<svg" in file.read_text()
