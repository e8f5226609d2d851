from __future__ import annotations

import dataclasses
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from llama_core.memory import private_memory
from llama_core.profiling.bench import run as bench
from llama_core.profiling.bench import start
from llama_core.profiling.bench.run import PRODUCTS_LABEL, Arithmetic, BenchResult, Row, run_bench
from llama_core.profiling.bench.start import middle_start
from llama_core.profiling.bench.tasks import Task, decode, named, prefill, random_ids
from llama_core.profiling.bench.text import bench_json, bench_lines, beside_peer, ratios
from llama_core.profiling.machine import BLAS_OVERRIDES, describe_machine, machine_lines
from llama_core.roofline.bandwidth import Bandwidth
from llama_core.roofline.roofline import TokenCost, float32_peak, token_cost

MEGA = 1e6


class ScriptedSubject:
    """Answers with given rates and notes the order of the calls."""

    def __init__(
        self,
        label: str,
        rates: list[float],
        calls: list[str],
        cost: TokenCost | None = None,
        arithmetic: Arithmetic = "unknown",
    ) -> None:
        self.label = label
        self.threads = 1
        self.cost = cost
        self.arithmetic = arithmetic
        self._rates = list(rates)
        self._calls = calls

    def can(self, task: Task) -> bool:
        return not (self.label == "b" and task.name == "pp8")

    def measure(self, task: Task) -> float:
        self._calls.append(f"{self.label}:{task.name}")
        return self._rates.pop(0)


@pytest.fixture
def quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose bandwidth and peak need no measuring."""
    monkeypatch.setattr(bench, "read_bandwidth", lambda threads: Bandwidth(5e9, threads, 1 << 27, "told"))
    monkeypatch.setattr(bench, "float32_peak", lambda: 7e9)
    monkeypatch.setattr(bench, "integer_peak", lambda threads: 90e9)
    monkeypatch.setattr(bench, "last_level_cache_bytes", lambda: 500)
    monkeypatch.setattr(bench, "PAUSE_S", 0.0)


def test_subjects_take_turns_and_the_first_round_does_not_count(quick_machine: None) -> None:
    calls: list[str] = []
    steps: list[tuple[int, int]] = []
    a = ScriptedSubject("a", [1, 2, 10, 20, 30, 40], calls)
    b = ScriptedSubject("b", [3, 5, 7], calls)
    tasks = [prefill(8), decode(n=4)]
    result = run_bench([a, b], tasks, repeat=2, on_step=lambda *step: steps.append(step))
    assert calls == ["a:pp8", "a:tg4", "b:tg4"] * 3
    assert steps == [(n, 9) for n in range(1, 10)]
    runs = {(row.task, row.label): row.runs for row in result.rows}
    assert runs == {("pp8", "a"): [10, 30], ("tg4", "a"): [20, 40], ("tg4", "b"): [5, 7]}
    assert len(result.bandwidth[1]) == 2
    assert result.peaks == {}


def test_repeat_must_be_positive() -> None:
    with pytest.raises(ValueError, match="repeat is 0"):
        run_bench([], [], repeat=0)


def test_busy_programs_run_beside_their_task_only(quick_machine: None) -> None:
    seen: list[tuple[str, int]] = []

    class Watcher(ScriptedSubject):
        def measure(self, task: Task) -> float:
            children = psutil.Process().children()
            seen.append((task.name, sum("getppid" in " ".join(child.cmdline()) for child in children)))
            return 1.0

    run_bench([Watcher("a", [], [])], [decode(n=2), decode(n=2, busy=2)], repeat=1)
    assert seen == [("tg2", 0), ("tg2+2busy", 2)] * 2
    assert not [c for c in psutil.Process().children() if "getppid" in " ".join(c.cmdline())]


def test_ceilings_follow_the_measured_machine(quick_machine: None) -> None:
    cost = TokenCost(weight_bytes=1000, kv_bytes_per_position=10, multiply_adds=300, last_multiply_adds=100)
    kinds: tuple[Arithmetic, ...] = ("float32", "integer", "unknown")
    subjects = [ScriptedSubject(kind, [1.0] * 4, [], cost, kind) for kind in kinds]
    result = run_bench(subjects, [prefill(8), decode(depth=100, n=10)], repeat=1)
    assert (result.bandwidth[1], result.peaks) == ([5e9], {"float32": [7e9], "integer": [90e9]})
    ceilings = {(row.task, row.label): row.ceiling for row in result.rows}
    for kind in kinds:
        assert ceilings["tg10@d100", kind] == pytest.approx(5e9 / (1000 + 10 * 105))
    assert ceilings["pp8", "float32"] == pytest.approx(7e9 / 200)
    assert ceilings["pp8", "integer"] == pytest.approx(90e9 / 200)
    assert ceilings["pp8", "unknown"] is None
    small = ScriptedSubject("jit", [1.0] * 2, [], dataclasses.replace(cost, weight_bytes=400))
    [row] = run_bench([small], [decode(n=2)], repeat=1).rows
    assert row.ceiling is None  # the cache holds it: memory is not the limit


def test_task_names_are_llama_cpps() -> None:
    assert [task.name for task in (prefill(512), decode(), decode(1024))] == ["pp512", "tg128", "tg128@d1024"]
    assert decode(busy=1).name == "tg128+1busy"
    assert decode().context_n == 129
    assert not prefill(512).decodes


def test_a_rows_name_says_what_is_measured() -> None:
    for task in (prefill(512), decode(), decode(4096, n=32)):
        assert named(task.name) == task
    for wrong in ("pp", "pp0", "tg1", "tg128@4096", "pp512 ", "512", "", "pp٣"):
        with pytest.raises(ValueError, match="is no row"):
            named(wrong)


def test_random_ids_are_the_same_each_time() -> None:
    assert random_ids(50, 300) == random_ids(50, 300)
    assert all(16 <= one < 300 for one in random_ids(50, 300))
    assert len(random_ids(3, 2)) == 3


def test_ratios_are_taken_round_by_round() -> None:
    rows = [
        Row("tg128", "jit (avx)", [30.0, 90.0, 20.0]),
        Row("tg128", "numpy", [10.0, 30.0, 20.0]),
        Row("tg128", PRODUCTS_LABEL, [20.0, 30.0, 40.0]),
        Row("tg128", "llama.cpp 1", [15.0, 45.0, 10.0]),
        Row("tg128+1busy", "numpy", [5.0, 15.0, 10.0]),
    ]
    found = {(one["of"], one["to"]): one["ratio"] for one in ratios(BenchResult(rows, {1: [1.0]}, "x", {}))}
    assert found == {
        ("jit (avx)", "numpy"): 3.0,
        ("jit (avx)", "llama.cpp 1"): 2.0,
        ("numpy", PRODUCTS_LABEL): 0.5,
        ("numpy", "llama.cpp 1"): pytest.approx(2 / 3),
        ("tg128+1busy", "tg128"): 0.5,
    }


def test_the_table_and_the_json_agree() -> None:
    rows = [Row("pp128", "numpy", [100.0, 300.0, 200.0], ceiling=400.0), Row("tg128", "numpy", [5.0])]
    result = BenchResult(
        rows, {2: [48e9, 50e9]}, "compiled loop", {"float32": [100e9, 102e9], "integer": [900e9]}
    )
    start = {
        "backend": "numpy",
        "load_s": 1.5,
        "compile_s": 0.25,
        "ttft_cold_s": 0.2,
        "ttft_warm_s": 0.1,
        "resident_bytes": 600 * 2**20,
        "peak_bytes": 700 * 2**20,
        "weights_bytes": 500 * 2**20,
        "kv_bytes": 100 * 2**20,
        "scratch_bytes": 2**20,
    }
    text = "\n".join(bench_lines(result, [start]))
    assert "49.0 GB/s read with 2 threads (48.0 to 50.0; compiled loop)" in text
    assert "101 G multiply-adds/s of float32 products (BLAS) (100 to 102)" in text
    assert "900 G multiply-adds/s of int8 dot products" in text
    line = next(line for line in text.splitlines() if line.startswith("pp128"))
    assert line.split() == ["pp128", "numpy", "200.0", "100.0", "300.0", "400", "0.50"]
    assert text.splitlines()[-1].split() == [
        "numpy",
        "1.50",
        "0.25",
        "200",
        "100",
        "600",
        "700",
        "500",
        "100",
        "1",
    ]
    # As wide as a terminal is at least, with the longest names that there are.
    kinds = ("jit kv f16", "llama.cpp")
    shown = bench_lines(result, [start | {"backend": kind} for kind in kinds])
    assert all(len(line) <= 80 for line in shown if "  " in line)  # others are folded
    data = bench_json("m", {"cpu": "x"}, result, [start])
    assert data["rows"][0]["of_ceiling"] == 0.5
    assert data["rows"][1]["of_ceiling"] is None
    assert data["peak_multiply_adds_per_s"] == {"float32": 101e9, "integer": 900e9}
    assert data["rows"][0]["runs"] == [100.0, 300.0, 200.0]


@pytest.mark.parametrize(("rate", "told"), [(399.0, False), (401.0, True)])
def test_more_than_the_ceiling_is_explained(rate: float, told: bool) -> None:
    result = BenchResult([Row("tg128", "numpy", [rate], ceiling=400.0)], {2: [48e9]}, "compiled loop", {})
    assert any(line.startswith("More than the ceiling") for line in bench_lines(result, [])) == told


def test_starts_are_measured_on_level_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read and more memory than it takes is written to; nothing of that is kept."""
    asked: list[int] = []

    def noted(nbytes: int) -> mmap.mmap:
        asked.append(nbytes)
        return private_memory(nbytes)

    monkeypatch.setattr(start, "private_memory", noted)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(32 << 20))
    before = psutil.Process().memory_info().rss
    for path in (file, tmp_path):
        start.level_ground(path)
    assert all(2 * (32 << 20) <= nbytes < 3 * (32 << 20) for nbytes in asked)
    assert len(asked) == 2
    assert psutil.Process().memory_info().rss - before < 48 << 20
    with pytest.raises(OSError, match="none"):
        start.level_ground(tmp_path / "none" / "model.gguf")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_a_childs_peak_is_its_own(tmp_path: Path) -> None:
    """However much the process holds that started it; and what it has given back counts."""
    held = np.ones(160 << 17)  # 160 MiB
    code = """
from llama_core.profiling.machine import peak_bytes
before = peak_bytes()
held = b"x" * (64 << 20)
del held
print(before, peak_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, more = map(int, done.stdout.split())
    assert before < held.nbytes // 2
    assert 60 << 20 < more < 80 << 20


def test_several_starts_are_given_by_their_middle() -> None:
    runs = [
        {"backend": "jit", "load_s": load, "compile_s": compiled, "ttft_warm_s": warm, "resident_bytes": size}
        for load, compiled, warm, size in ((9.0, 6.0, 0.03, 100), (0.2, 0.0, 0.02, 90), (0.3, 0.0, 0.01, 80))
    ]
    middle = middle_start(runs)
    assert middle.pop("runs") == runs
    assert middle == {
        "backend": "jit",
        "load_s": 0.3,
        "compile_s": 6.0,
        "ttft_warm_s": 0.02,
        "resident_bytes": 90,
    }


def test_a_start_stands_beside_llama_cpps() -> None:
    ours = {"backend": "jit", "load_s": 0.5, "ttft_warm_s": 0.02, "resident_bytes": 80, "peak_bytes": 90}
    theirs = {
        "backend": "llama.cpp",
        "load_s": 2.0,
        "ttft_warm_s": 0.1,
        "resident_bytes": 100,
        "peak_bytes": 120,
    }
    assert beside_peer([ours]) == []
    assert beside_peer([ours, theirs]) == [
        "first token, warm: jit is 5.0x sooner than llama.cpp",
        "load: jit takes 0.25 of llama.cpp's time",
        "memory: jit holds 0.80 of llama.cpp's after loading, 0.75 at most",
    ]


def test_float32_peak_is_positive() -> None:
    assert float32_peak(repeats=1) > MEGA


@pytest.mark.model
def test_the_copying_task_is_a_request_of_the_model(default_model: Path) -> None:
    from llama_core.loaders import open_checkpoint
    from llama_core.profiling.bench.tasks import TEXT, copying

    checkpoint = open_checkpoint(default_model)
    task = copying(checkpoint)
    assert task is not None
    assert task.ids(1) == list(task.prompt_ids)
    assert task.prompt_n == len(task.prompt_ids) > 250
    assert TEXT in checkpoint.tokenizer.decode(task.prompt_ids)
    assert task.stop_ids == checkpoint.tokenizer.stop_ids
    assert copying(dataclasses.replace(checkpoint, chat_template=None)) is None


@pytest.mark.model
def test_the_cost_of_the_default_model(default_model: Path) -> None:
    """The figures of shared/design/measuring.md: 96.4 MB in the file, 538 MB as float32, 134.5 M products."""
    from llama_core.loaders import open_checkpoint

    checkpoint = open_checkpoint(default_model)
    in_file, in_float32 = token_cost(checkpoint, "file"), token_cost(checkpoint, "float32")
    assert in_file.weight_bytes / MEGA == pytest.approx(96.5, abs=0.2)
    assert in_float32.weight_bytes / MEGA == pytest.approx(538, abs=0.5)
    assert in_file.multiply_adds / MEGA == pytest.approx(134.5, abs=0.1)
    assert (in_file.multiply_adds - in_file.last_multiply_adds) / MEGA == pytest.approx(102.9, abs=0.1)
    assert (in_float32.multiply_adds - in_float32.last_multiply_adds) / MEGA == pytest.approx(106.2, abs=0.1)
    assert in_file.kv_bytes_per_position == 46_080
    assert token_cost(checkpoint, "file", "q8").kv_bytes_per_position < 46_080 / 3


def test_the_machine_is_described() -> None:
    machine = describe_machine(2)
    assert machine["cores"] == os.cpu_count()
    assert machine["threads"] == 2
    text = "\n".join(machine_lines(machine))
    for word in (machine["numpy"], machine["python"], machine["blas_kernel"], machine["cpu"]):
        assert word in text


@pytest.mark.parametrize("loaded", [False, True])
def test_the_blas_override_is_removed_before_numpy_loads_only(loaded: bool) -> None:
    script = (
        ("import numpy\n" if loaded else "")
        + "import os\nfrom llama_core.profiling.machine import use_native_blas\n"
        + "try:\n    print(use_native_blas())\nexcept RuntimeError as error:\n    print('late', error)\n"
        + "print([name for name in os.environ if name.startswith('OPENBLAS_')])\n"
    )
    environment = {**os.environ, **dict.fromkeys(BLAS_OVERRIDES, "Haswell")}
    environment["OPENBLAS_L2_SIZE"] = "512"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    first, left = done.stdout.splitlines()
    if loaded:
        assert first.startswith("late")
        assert left != "[]"
    else:
        assert first == str(list(BLAS_OVERRIDES))
        assert left == "[]"
