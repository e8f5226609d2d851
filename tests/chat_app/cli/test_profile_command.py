"""`llama-chat profile all` on a toy model leaves its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RunCli = Callable[..., Any]


def test_profile_all_leaves_its_report(run_cli: RunCli, tiny_model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    forced = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    options = ["--backend", "numpy", "--no-simulate", "--prompt-tokens", "24", "--tokens", "6"]
    ran = run_cli("profile", "all", "-m", str(tiny_model), *options, "--report", str(report), **forced)
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
    assert data["machine"]["blas_kernel"]
    text = (report / "report.md").read_text()
    for heading in ("## Inference", "## Bytecode", "## Memory", "## Counters"):
        assert heading in text
        assert heading in ran.out


def test_one_profile_prints_json_and_leaves_no_folder(
    run_cli: RunCli, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run_cli("profile", "bytecode", "-m", str(tiny_model), "--output", "json")
    assert ran.code == 0, ran.err
    assert set(json.loads(ran.out)["profiles"]) == {"bytecode"}
    assert list(tmp_path.glob("profile-*")) == []
    assert run_cli("profile", "inference", "--tokens", "0").code == 2
