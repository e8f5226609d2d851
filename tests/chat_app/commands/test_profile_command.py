"""`llama-chat profile`: all on a toy model leaves its report, and nothing measured is thrown away."""

from __future__ import annotations

import json
import os
import pstats
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands import profile as commands_profile
from llama_core.errors import UnsupportedModelError
from llama_core.profiling import fresh_process
from llama_core.profiling.profile import report as charts
from llama_core.profiling.profile.sections import Section

RunCli = Callable[..., Any]
OPTIONS = ("--backend", "numpy", "--no-simulate", "--prompt-tokens", "24", "--tokens", "6")


def test_profile_all_leaves_its_report(run_cli: RunCli, tiny_model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    forced = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    ran = run_cli("profile", "all", "-m", str(tiny_model), *OPTIONS, "--report", str(report), **forced)
    assert ran.code == 0, ran.err
    assert "OPENBLAS_CORETYPE" in ran.err
    data = json.loads((report / "report.json").read_text())
    assert set(data["profiles"]) == {"inference", "bytecode", "memory", "counters"}
    (inference,) = data["profiles"]["inference"]
    phases = {phase["name"]: phase for phase in inference["phases"]}
    assert {"model loading", "tokenisation", "prefill", "decode", "detokenisation"} <= set(phases)
    assert (inference["prompt_n"], inference["generated_n"]) == (24, 6)
    assert phases["prefill"]["items"] == 24
    assert set(inference["operations"]) == {"prefill", "decode"}
    for table in inference["operations"].values():
        assert sum(row["seconds"] for row in table["rows"]) == pytest.approx(table["total_s"])
    (memory,) = data["profiles"]["memory"]
    assert memory["context_n"] == 24 + 6 - 1
    assert memory["account"]["kv_used_bytes"] > 0
    assert data["machine"]["blas_kernel"]
    text = (report / "report.md").read_text()
    for heading in ("## Inference", "## Bytecode", "## Memory", "## Counters"):
        assert heading in text
        assert heading in ran.out
    drawn = {file.name for file in report.glob("*.svg")}
    if charts.charts_available() is None:
        assert {"phases-numpy-float32.svg", "memory-numpy-float32.svg", "bytecode-engine.svg"} <= drawn
    else:
        assert "No pictures" in ran.err
        assert drawn == set()


def test_one_profile_prints_json_and_leaves_no_folder(
    run_cli: RunCli, main: RunCli, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run_cli("profile", "bytecode", "-m", str(tiny_model), "--output", "json")
    assert ran.code == 0, ran.err
    assert set(json.loads(ran.out)["profiles"]) == {"bytecode"}
    assert list(tmp_path.glob("profile-*")) == []
    assert main("profile", "inference", "--tokens", "0").code == 2


def test_a_prompt_layers_and_the_first_version(
    run_cli: RunCli, main: RunCli, tiny_model: Path, tmp_path: Path
) -> None:
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1", "--tokens", "3"]
    own = run_cli(
        "profile", "inference", *options, "--prompt", "the the", "--layers", "--report", str(tmp_path / "own")
    )
    assert own.code == 0, own.err
    assert "| tokens of the prompt | 2 |" in own.out
    assert "The same by layer" in own.out
    assert "flame graph" in own.err.lower()
    [dumped] = (tmp_path / "own").glob("inference-*.pstats")
    assert pstats.Stats(str(dumped)).total_calls > 10  # type: ignore[attr-defined]
    first = run_cli("profile", "inference", *options, "--prompt", "the the", "--baseline")
    assert first.code == 0, first.err
    assert "Inference, first version" in first.out
    assert "| ncalls | tottime | percall |" in first.out
    assert main("profile", "memory", *options, "--layers").code == 2


def test_counts_of_one_backend_outlive_the_interruption_of_the_other(
    main: RunCli, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_core.profiling.profile import counters

    def counted(path: Path, backend: str, cache: Path, *, simulate: bool) -> counters.CounterProfile:
        if backend == "numpy":
            raise KeyboardInterrupt
        return counters.CounterProfile("perf stat", "counted", backend, "tiny", {"instructions": 1234.0})

    monkeypatch.setattr(counters, "profile_counters", counted)
    monkeypatch.setattr(commands_profile, "backends", lambda settings: ("jit", "numpy"))
    ran = main("profile", "counters", "-m", str(tiny_model))
    assert ran.code == 130
    assert "| instructions | 1,234 |" in ran.out
    assert "while profiling counters; measured before that and kept: Counters" in ran.err


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured, in turn; nothing takes any time."""
    kinds: list[str] = []

    def quick(kind: str) -> Callable[..., None]:
        def profiler(args: Any, settings: Any, collected: Any) -> None:
            kinds.append(kind)
            collected.profiles["bytecode"] = ["measured"]
            collected.sections.append(Section("Bytecode", "a table\n"))

        return profiler

    for kind in commands_profile.KINDS:
        monkeypatch.setitem(commands_profile.PROFILERS, kind, quick(kind))
    return kinds


def test_a_place_that_takes_no_report_is_found_before_measuring(
    main: RunCli, tmp_path: Path, measured: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for place, said in (
        ("missing/report", "there is no folder"),
        ("file", "is a file; a report is a folder"),
        ("/proc/self/report", "no report can be written"),
    ):
        ran = main("profile", "all", "--report", str(tmp_path / place))
        assert ran.code == 2
        assert said in ran.err
        assert "Traceback" not in ran.err
    assert measured == []
    assert main("profile", "all", "--report", str(tmp_path / "report")).code == 0
    assert measured == list(commands_profile.KINDS)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Stopped by Ctrl+C while"),
        (RuntimeError("bad"), 1, "Broken off (RuntimeError: bad)"),
    ],
)
def test_what_is_measured_before_the_end_is_kept(
    main: RunCli,
    tmp_path: Path,
    measured: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    report = tmp_path / "report"
    monkeypatch.setitem(commands_profile.PROFILERS, "memory", fail)
    ran = main("profile", "all", "--report", str(report))
    assert ran.code == code
    assert measured == ["inference", "bytecode"]
    assert said in ran.err
    assert "while profiling memory; measured before that and kept: Bytecode, Bytecode." in ran.err
    assert "## Bytecode" in ran.out
    assert "while profiling memory" in (report / "report.md").read_text()
    data = json.loads((report / "report.json").read_text())
    assert data["profiles"]["bytecode"]
    assert said in data["notes"][0]

    monkeypatch.setitem(commands_profile.PROFILERS, "inference", fail)
    assert main("profile", "all", "--report", str(tmp_path / "second")).code == code
    assert not (tmp_path / "second").exists()  # nothing was measured


@pytest.mark.skipif(os.name == "nt", reason="a terminal's Ctrl+C is a signal to a group of processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_it_at_once_with_what_there_is(
    name: str, tiny_model: Path, tmp_path: Path, llama_chat_home: Path
) -> None:
    """The process that measures gets Ctrl+C too, as in a terminal; other signals reach the parent alone."""
    number = getattr(signal, name)
    report = tmp_path / "report"
    arguments = ["profile", "all", "-m", str(tiny_model), *OPTIONS[:-1], "400", "--report", str(report)]
    with subprocess.Popen(
        [sys.executable, "-m", "chat_app", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "profiling: memory" in line:
                send = os.killpg if name == "SIGINT" else os.kill
                send(child.pid, number)
                break
        out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + number, err
    stopped = "Ctrl+C" if name == "SIGINT" else name
    said = re.search(f"Stopped by {re.escape(stopped)} while profiling (memory|counters); ", err)
    assert said is not None, err  # a signal that was sent late finds it at the next
    assert "Inference, numpy float32, Bytecode" in err
    assert "Traceback" not in err
    assert "## Bytecode" in out
    whole = {"inference", "bytecode"} | ({"memory"} if said[1] == "counters" else set())
    assert set(json.loads((report / "report.json").read_text())["profiles"]) == whole


def test_a_model_that_the_compiled_backend_refuses_is_profiled_with_numpy(
    main: RunCli, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, int]] = []
    refused = ["jit"]
    real = fresh_process.in_fresh_process

    def profile(function: Any, path: Path, options: dict[str, Any], *counts: int) -> Any:
        asked.append((options["backend"], options["kv"], options["ctx_size"]))
        if options["backend"] in refused:
            raise UnsupportedModelError(path, "config", "head_dim is 20")
        return real(function, path, options, *counts)

    monkeypatch.setattr(commands_profile, "backends", lambda settings: ("jit", "numpy"))
    monkeypatch.setattr(fresh_process, "in_fresh_process", profile)
    options = ("--kv", "f16", "--ctx-size", "64", "--tokens", "4", "--prompt-tokens", "8")
    ran = main("profile", "inference", "-m", str(tiny_model), *options)
    assert ran.code == 0, ran.err
    assert asked == [("jit", "f16", 64), ("numpy", "f32", 64)]
    assert "The compiled backend is left out" in ran.err
    assert "head_dim is 20" in ran.err
    assert "--kv f16 is for the compiled one alone" in ran.err
    assert "## Inference, numpy float32" in ran.out
    assert main("profile", "inference", "-m", str(tiny_model), "--backend", "jit").code == 1
    refused.append("numpy")  # then there is nothing to profile
    failed = main("profile", "inference", "-m", str(tiny_model))
    assert failed.code == 1
    assert failed.err.count("head_dim is 20") == 2
