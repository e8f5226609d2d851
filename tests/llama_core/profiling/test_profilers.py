"""The profilers measure what happens and leave nothing behind."""

from __future__ import annotations

import json
import marshal
import random
from pathlib import Path

import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.cpu import cache_levels
from llama_core.engine.drafting.prompt_lookup import PromptLookup
from llama_core.engine.text import TextEngine
from llama_core.profiling.profile import bytecode, counters, counters_worker, sections
from llama_core.profiling.profile import inference as inference_profile
from llama_core.profiling.profile.executed import executed, executed_steps
from llama_core.profiling.profile.first_version import profile_first_version
from llama_core.profiling.profile.operations import percent
from llama_core.profiling.profile.report import allocation_graph, flame_graph
from llama_core.profiling.profile.sections import bytecode_section, counters_section


def test_a_profile_holds_every_phase_and_adds_up(engine: TextEngine) -> None:
    profile = inference_profile.profile_inference(
        engine, 0.5, 0.25, prompt_n=24, generated_n=6, top_functions=999
    )
    assert [(phase.name, phase.items) for phase in profile.phases] == [
        ("compiling the kernels, once", 0),
        ("model loading", engine.checkpoint.file_bytes),
        ("tokenisation, first use", len(inference_profile.TEXT) * 2),
        ("tokenisation", len(inference_profile.TEXT) * 2),
        ("prefill", 24),
        ("decode", 5),
        ("detokenisation", 6),
    ]
    assert [phase.seconds for phase in profile.phases[:2]] == [0.25, 0.5]
    assert all(phase.seconds > 0 for phase in profile.phases)
    assert (profile.prompt_n, profile.generated_n) == (24, 6)
    assert profile.kv_used_bytes == profile.kv_bytes * (24 + 6 - 1) // engine.ctx_size
    assert profile.peak_bytes > profile.weights_bytes > 0
    assert len({row.name for row in profile.functions}) > 5
    for row in profile.functions:
        assert row.calls >= 1
        assert 0 <= row.percent <= row.cumulative_percent <= 100
    assert max(row.cumulative_percent for row in profile.functions) == 100
    text = sections.inference_section(profile).markdown
    for said in ("tokens generated | 6 |", "tokens per second", "model memory", "peak memory", "| RoPE |"):
        assert said in text
    assert "The same by layer" not in text
    by_layer = sections.inference_section(profile, layers=True).markdown
    assert "| 0 | " in by_layer
    assert "| 1 | " in by_layer
    assert 0 < profile.interpreter_share <= 1
    stats = marshal.loads(profile.pstats)
    assert any(name == "generate" for _, _, name in stats)


def test_what_python_executes_is_counted_instruction_by_instruction() -> None:
    def inner(n: int) -> int:
        return n + 1

    def outer(n: int) -> int:
        total = 0
        for i in range(n):
            total += inner(i)
        return total

    def run(n: int) -> dict[str, tuple[int, int]]:
        found, result = executed(lambda: outer(n))
        assert result == n * (n + 1) // 2
        return {one.name.rpartition(".")[2]: (one.calls, one.instructions) for one in found}

    three, five = run(3), run(5)
    assert (three["inner"][0], five["inner"][0], three["outer"][0]) == (3, 5, 1)
    each = three["inner"][1] / 3
    assert each == five["inner"][1] / 5 >= 4  # load, load, add, return
    assert five["outer"][1] > three["outer"][1]


def test_a_step_executes_less_than_a_first_versions() -> None:
    steps = {step.name: step for step in executed_steps()}
    decode, first = steps["engine, decode"], steps["first version, decode"]
    assert decode.n_layers == 6
    # Every layer: two norms, and the engine's own calls stay below the first version's.
    norms = next(one for one in decode.functions if one.name == "ops.rms_norm")
    assert norms.calls == 2 * 6 + 1
    assert 1000 < decode.instructions < first.instructions
    assert decode.calls < first.calls


@pytest.mark.model
def test_a_first_version_is_profiled_with_its_list_index(default_model: Path) -> None:
    profile = profile_first_version(default_model, None, 8, 3, prompt="A short prompt, twice: prompt")
    assert [phase.name for phase in profile.phases] == ["model loading", "tokenisation", "prefill", "decode"]
    assert profile.generated_n == 3
    assert profile.phases[1].items == profile.prompt_n > 4
    names = [row.name for row in profile.functions]
    assert "<method 'index' of 'list' objects>" in names
    text = sections.first_version_section(profile).markdown
    assert "| ncalls | tottime | percall |" in text


def test_cachegrind_is_told_the_machines_caches(tmp_path: Path) -> None:
    entries = (
        ("index0", "1", "Data", "48K", "12", "64"),
        ("index1", "1", "Instruction", "32K", "8", "64"),
        ("index2", "2", "Unified", "1024K", "8", "64"),
        ("index3", "3", "Unified", "36M", "12", "64"),
        ("index4", "x", "Unified", "?", "12", "64"),
    )
    names = ("level", "type", "size", "ways_of_associativity", "coherency_line_size")
    for index, *values in entries:
        (tmp_path / index).mkdir()
        for name, value in zip(names, values, strict=True):
            (tmp_path / index / name).write_text(value + "\n")
    levels = cache_levels(tmp_path)
    assert [cache.size_bytes for cache in levels] == [48 << 10, 32 << 10, 1 << 20, 36 << 20]
    # 36 MiB in 12 ways are 49,152 sets; the nearest power of two is 65,536.
    assert counters.simulated_caches(levels) == {
        "I1": "32768,8,64",
        "D1": "49152,12,64",
        "LL": f"{65536 * 12 * 64},12,64",
    }
    assert counters.simulated_caches([]) == {}


def test_a_flame_graph_is_py_spys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, tool = tmp_path / "flame.svg", tmp_path / "py-spy"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "py-spy is not installed" in (flame_graph(target, ["x"], {}) or "")
    tool.write_text("#!/bin/sh\necho 'Permission denied' >&2\nexit 1\n")
    tool.chmod(0o755)
    assert flame_graph(target, ["x"], {}) == "py-spy wrote none: Permission denied"
    tool.write_text('#!/bin/sh\necho "$@" > "$5"\n')
    assert flame_graph(target, ["worker", "{}"], {}) is None
    assert target.read_text().split() == [
        *("record", "--format", "flamegraph", "--output", str(target), "--", "worker", "{}")
    ]


def test_a_graph_of_allocations_is_memrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, tool = tmp_path / "allocations.html", tmp_path / "memray"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "memray is not installed" in (allocation_graph(target, ["x"], {}) or "")
    tool.write_text('#!/bin/sh\necho "no record of $2" >&2\n')
    tool.chmod(0o755)
    assert allocation_graph(target, ["x"], {}) == "memray wrote none: no record of --quiet"
    tool.write_text('#!/bin/sh\n[ $1 = run ] && echo "$5 $6 $7" > "$4" || cat "$4" > "$3"\n')
    assert allocation_graph(target, ["worker", "{}"], {"PATH": "/usr/bin:/bin"}) is None
    assert target.read_text() == "-m worker {}\n"


def test_all_of_a_time_is_100_percent_of_it_whatever_its_length() -> None:
    lengths = random.Random(5)
    for whole in (lengths.uniform(1e-6, 10) for _ in range(1000)):
        assert percent(whole, whole) == 100
    assert percent(1.0, 0.0) == 0.0


def test_a_prompt_that_no_context_holds_is_not_even_written(
    engine: TextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    encode = inference_profile.encode

    def noting(engine: TextEngine, n: int, prompt: str | None = None) -> object:
        asked.append(n)
        return encode(engine, n, prompt)

    monkeypatch.setattr(inference_profile, "encode", noting)
    profile = inference_profile.profile_inference(engine, 0.5, prompt_n=10**12, generated_n=6)
    assert asked == [profile.prompt_n] == [engine.ctx_size - 6]


def test_every_step_of_a_profile_is_one_token(engine: TextEngine) -> None:
    """A drafter would make several tokens of a step, and TEXT, which repeats itself, invites it."""
    drafter = PromptLookup()
    engine.engine.drafter = drafter
    profile = inference_profile.profile_inference(engine, 0.5, prompt_n=24, generated_n=6)
    assert profile.timings.draft_n == 0
    rows = {row.name: row for row in profile.operations["decode"].rows}
    assert rows["head"].calls == 5
    assert engine.engine.drafter is drafter


def test_a_small_context_shortens_prompt_and_reply(toy_checkpoint: Checkpoint) -> None:
    small = TextEngine(toy_checkpoint, Llama(toy_checkpoint.config, load_weights(toy_checkpoint)), 16)
    profile = inference_profile.profile_inference(small, 0.5, prompt_n=128, generated_n=64)
    assert profile.prompt_n + profile.generated_n == 16
    small.close()


def test_bytecode_is_counted_as_python_compiles_it() -> None:
    def sample(x: list[int]) -> object:
        return sorted(x, key=lambda n: n.bit_length(), reverse=True)

    found = bytecode.count("sample", sample.__code__)
    assert found.keyword_calls == 1
    assert found.attribute_loads >= 1  # inside the lambda
    assert found.instructions == sum(found.opcodes.values())
    profile = bytecode.profile_bytecode()
    names = {function.name for function in profile.engine}
    assert {"numpy.model.Llama.forward", "numpy.ops.rms_norm", "sampling.sampler.Sampler.draw"} <= names
    assert {"first_version.model.apply_rope", "first_version.model.Attention.__call__"} <= {
        f.name for f in profile.baseline
    }
    section = bytecode_section(profile)
    assert "| LOAD_FAST | " in section.markdown
    largest = max(profile.engine, key=lambda function: function.instructions)
    assert f"| {largest.name} | " in section.markdown
    # Several modules of each side, so that none is compared with a part of the other.
    assert {"numpy", "tokenizers"} <= {function.name.partition(".")[0] for function in profile.engine}
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
        "data accesses, vectors split": 456.0,
        "L1 data misses": 12.0,
        "last-level misses": 3.0,
        "branch-misses": 99.0,
    }


def test_counts_per_token_are_what_longer_runs_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_child", lambda command: "")
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
    assert "not measured" in counters_section([found]).markdown


@pytest.mark.parametrize("backend", ["numpy", "jit"])
def test_simulation_counts_the_backend_asked_for(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def child(command: list[str]) -> str:
        if command[0] != "valgrind":  # the run that builds the kernels
            assert json.loads(command[-1])["n"] == 0
            assert commands == []
            commands.append(command)
            return ""
        commands.append(command)
        return CACHEGRIND.replace("1,234,567", f"{len(commands)},000,000")

    monkeypatch.setattr(counters, "perf_unavailable", lambda: "perf is not installed")
    monkeypatch.setattr(counters.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(counters, "_child", child)
    found = counters.profile_counters(Path("model.gguf"), backend, Path("kernels"))
    assert found.backend == backend
    assert found.per_token["instructions"] == pytest.approx(1_000_000 / 3)
    assert "perf is not installed" in found.said
    assert "no cycles" in found.said
    requests = [json.loads(command[-1]) for command in commands]
    assert [(r["backend"], r["kernel_cache"], r["n"]) for r in requests] == [
        (backend, "kernels", n) for n in (0, *counters.CACHEGRIND_TOKENS)
    ]


def test_the_counted_process_runs_the_backend_asked_for(kernel_cache: Path) -> None:
    request = {"path": "", "kernel_cache": str(kernel_cache)}
    assert counters_worker._model({**request, "backend": "numpy"}).backend.startswith("numpy")
    pytest.importorskip("numba")
    compiled = counters_worker._model({**request, "backend": "jit"})
    assert compiled.backend.startswith("jit")
    assert "avx512" not in compiled.backend  # valgrind knows none
    compiled.close()
