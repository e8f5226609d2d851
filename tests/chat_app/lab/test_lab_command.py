"""`llama-chat lab`: lists, runs, appends, reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands import lab as commands_lab
from llama_core.profiling.lab import report

RunCli = Callable[..., Any]


def test_all_experiments_are_listed_with_what_would_refute_them(main: RunCli) -> None:
    ran = main("lab", "list")
    assert ran.code == 0
    told = " ".join(ran.out.split())  # lines are broken at a width
    assert [experiment.number for experiment in commands_lab.registry()] == list(range(1, 18))
    for experiment in commands_lab.registry():
        assert f"{experiment.number:>2}  {experiment.name}" in ran.out
        assert " ".join(experiment.refuted_if.split()) in told


def test_a_run_is_shown_kept_and_reported(
    run_cli: RunCli, main: RunCli, tmp_path: Path, llama_chat_home: Path
) -> None:
    forced = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    out = tmp_path / "results.json"
    ran = run_cli("lab", "run", "annotations", "--budget", "0.05", "--output-file", str(out), **forced)
    assert ran.code == 0, ran.err
    assert "OPENBLAS_CORETYPE" in ran.err
    assert "softmax, annotated locals removed" in ran.out
    assert "outputs match: identical" in ran.out
    kept = (llama_chat_home / "data" / "lab-results.jsonl").read_text()
    assert kept == out.read_text()
    record = json.loads(kept)
    assert record["machine"]["blas_kernel"]
    assert record["machine"]["numpy"]
    for row in record["rows"]:
        assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
        assert row["match"]["ok"]
        assert row["before_s"]["n"] == row["after_s"]["n"] >= 3
        assert row["match"]["text"] == "identical, the bytecode identical too"

    findings = main("lab", "report")
    assert findings.code == 0
    assert "| 2 Annotated locals | " in findings.out
    full = main("lab", "report", str(out), "--full")
    assert "### 2. Annotated locals" in full.out
    readme = tmp_path / "README.md"
    readme.write_text(f"# x\n{report.BEGIN}\n{report.END}\n")
    assert main("lab", "report", "--readme", str(readme)).code == 0
    assert "| 2 Annotated locals | " in readme.read_text()
    assert run_cli("lab", "run", "2", "--budget", "0.05").code == 0
    assert len((llama_chat_home / "data" / "lab-results.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("budget", ["inf", "-inf", "nan", "0", "-1", "1e9", "soon", ""])
def test_a_budget_that_is_no_time_is_refused(main: RunCli, budget: str) -> None:
    ran = main("lab", "run", "rope", f"--budget={budget}")
    assert ran.code == 2
    assert f"--budget: {budget!r} is no number of seconds above 0" in ran.err


def test_threads_out_of_range_are_refused(main: RunCli) -> None:
    for threads in ("0", "-1", "many", "100000"):
        ran = main("lab", "run", "rope", f"--threads={threads}")
        assert ran.code == 2
        assert "--threads" in ran.err


def test_an_unknown_experiment_is_answered_with_close_names_and_the_list(main: RunCli) -> None:
    ran = main("lab", "run", "kv", "RoPE", "tokeniser", "xyzzy\x1b[31m")
    assert ran.code == 2
    assert ran.out == ""
    assert 'There is no experiment "RoPE"; did you mean rope?' in ran.err
    assert 'There is no experiment "tokeniser"; did you mean tokenizer?' in ran.err
    assert 'There is no experiment "xyzzy[31m".' in ran.err
    for experiment in commands_lab.registry():
        assert f" {experiment.name}," in ran.err


def test_reports_need_results(main: RunCli, tmp_path: Path) -> None:
    ran = main("lab", "report")
    assert ran.code == 2
    assert "`llama-chat lab run all` makes some" in ran.err
    empty = tmp_path / "empty.json"
    empty.write_text("")
    for path, reason in ((empty, "holds no results"), (tmp_path, "is no ordinary file")):
        ran = main("lab", "report", str(path))
        assert ran.code == 2
        assert reason in ran.err
    ran = main("lab", "report", str(empty), "--full", "--readme", "x")
    assert ran.code == 2
    assert "not allowed with" in ran.err


def test_without_a_model_its_rows_are_not_measured(main: RunCli, monkeypatch: Any) -> None:
    from llama_core.profiling.lab.experiments import batching

    monkeypatch.setattr(commands_lab, "registry", lambda: [batching.EXPERIMENT])
    ran = main("lab", "run", "batching", "-m", "/nowhere/model.gguf", "--budget", "0.05")
    assert ran.code == 0, ran.err
    assert "not measured" in ran.out
