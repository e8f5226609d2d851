"""The experiment with compiled functions: what is counted, what is paid back, and the row about a GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core.backends.jit.build import builder as kernel_build
from llama_core.backends.jit.build.library import Built, packed
from llama_core.profiling.lab.experiment import (
    Case,
    LabContext,
    NotMeasured,
)
from llama_core.profiling.lab.experiments import compiled
from llama_core.profiling.statistics import Interval
from tests.support.lab_rows import row


def test_break_even_counts_the_calls_of_a_token(context: LabContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "step_compile_s", lambda: 6.0)
    rows = [
        row("norm, 1 row: x", 12e-6, 2e-6, note="compiled in 0.61 s, needed 61 times a token"),
        row("SiLU, 1 row: x", 2e-6, 4e-6, note="compiled in 0.50 s, needed 30 times a token"),
        row("norm, 64 rows: x", 12e-6, 2e-6),
        replace(
            row("softmax, 1 row: x", 12e-6, 11e-6, note="compiled in 0.70 s, needed 30 times a token"),
            ratio=Interval(1.09, 0.98, 1.2),
        ),
        replace(
            row("RoPE, 1 row: x", 11e-6, 12e-6, note="compiled in 0.70 s, needed 30 times a token"),
            ratio=Interval(0.92, 0.8, 1.02),
        ),
        row(f"{compiled.STEP}: x", 16e-3, 4e-3, note="jit"),
    ]
    assert compiled.conclude(context, rows) == [
        "norm: compiled in 0.61 s, paid back after 1,000 tokens",
        "SiLU: compiled in 0.50 s, never paid back",
        (
            "softmax: compiled in 0.70 s, no break-even point can be given: the interval of its ratio "
            "includes 1 (0.98 to 1.20)"
        ),
        (
            "RoPE: compiled in 0.70 s, no break-even point can be given: the interval of its ratio "
            "includes 1 (0.80 to 1.02)"
        ),
        (
            f"{compiled.STEP}: compiled in 6.00 s, paid back after 500 tokens against NumPy's decode "
            "(once on a machine: the kernels are kept)"
        ),
    ]


def test_a_function_is_counted_as_often_as_a_token_calls_it() -> None:
    """SmolLM2-135M: 30 layers, whose square matrices are q and o, 3 KV heads, a norm at the end."""
    assert {function.name: function.per_token for function in compiled.FUNCTIONS} == {
        "softmax": 30,
        "SiLU": 30,
        "RoPE": 30,
        "norm": 61,
        "attention of one KV head": 90,
        "product 576 x 576": 60,
    }
    rng = np.random.default_rng(0)
    shapes = {f.name: [a.shape for a in f.inputs(rng, 1)] for f in compiled.FUNCTIONS}
    assert shapes["RoPE"][0] == (1, 9 + 3, 64)  # queries and keys
    assert shapes["softmax"][0] == (9, compiled.CONTEXT)  # all heads
    assert shapes["attention of one KV head"][0] == (3, 64)


def test_the_first_function_does_not_pay_for_the_compilers_start(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter((9.0, *range(1, 9)))
    monkeypatch.setattr(compiled, "compile_loop", lambda loop, inputs: (loop, next(took)))
    first = next(case for case in compiled.cases(context) if isinstance(case, Case))
    assert "compiled in 1.00 s" in first.note


def fake_gpu(monkeypatch: pytest.MonkeyPatch, **libraries: object) -> None:
    monkeypatch.setattr(compiled.importlib.util, "find_spec", libraries.get)
    monkeypatch.setattr(compiled.importlib, "import_module", libraries.__getitem__)


class OnDevice(np.ndarray):
    """What torch would hold: moved there and back by methods of these names."""

    def to(self, device: str) -> np.ndarray:
        assert device == "cuda"
        return self

    def cpu(self) -> np.ndarray:
        return self

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def fake_torch(available: bool) -> SimpleNamespace:
    cuda = SimpleNamespace(is_available=lambda: available)
    return SimpleNamespace(cuda=cuda, from_numpy=lambda a: a.view(OnDevice))


def test_a_gpu_is_looked_for_with_both_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch)
    none = compiled.gpu_row()
    assert isinstance(none, NotMeasured)
    assert "cupy is not installed, torch is not installed" in none.reason

    def broken() -> int:
        raise RuntimeError("the driver is too old")

    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=broken)))
    fake_gpu(monkeypatch, cupy=cupy, torch=fake_torch(False))
    none = compiled.gpu_row()
    assert isinstance(none, NotMeasured)
    assert "cupy: RuntimeError: the driver is too old, torch finds no CUDA device" in none.reason

    fake_gpu(monkeypatch, cupy=cupy, torch=fake_torch(True))
    case = compiled.gpu_row()
    assert isinstance(case, Case)
    assert case.note == "by torch"
    assert case.check(case.before(), case.after()).ok


def test_the_step_row_tells_what_compiling_it_took(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "FUNCTIONS", ())
    monkeypatch.setattr(compiled, "step_compile_s", lambda: 4.0)
    [step] = [case for case in compiled.cases(context) if case.name.startswith(compiled.STEP)]
    assert isinstance(step, Case)
    [sentence] = compiled.conclude(context, [row(step.name, 16e-3, 4e-3, note=step.note)])
    assert "compiled in 4.00 s, paid back after 333 tokens" in sentence


@pytest.mark.parametrize("works", [True, False])
def test_compiling_counts_only_when_kernels_come_of_it(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = packed(Built((b"code",), {"run": 0})) if works else b"half of it"

    def builder(isa: object) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.stdout.buffer.write({written!r})"
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)

    monkeypatch.setattr(kernel_build, "start_builder", builder)
    found = compiled.step_compile_s()
    assert (found is not None and found > 0) if works else found is None


@pytest.mark.slow
def test_a_whole_step_is_built_anew_each_time() -> None:
    assert all((compiled.step_compile_s() or 0) > 0.1 for _ in range(2))
