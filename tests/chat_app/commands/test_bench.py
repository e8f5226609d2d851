from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import model_files


def test_bench_json(main: Callable[..., Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.profiling.bench.run.last_level_cache_bytes", lambda: 0)
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1", "--repeat", "1", "--no-start"]
    ran = main("bench", *options, "--depth", "64", "--output", "json")
    assert ran.code == 0, ran.err
    assert "pp512 is left out: this model's context holds 512 tokens" in ran.err
    result = json.loads(ran.out)
    names = [(row["row"], row["backend"]) for row in result["rows"]]
    assert names == [
        ("pp128", "numpy"),
        ("tg128", "numpy"),
        ("tg128", "numpy, products alone"),
        ("tg128@d64", "numpy"),
    ]
    for row in result["rows"]:
        assert row["min"] <= row["tokens_per_s"] <= row["max"]
        assert len(row["runs"]) == 1
    ceilings = {
        row["row"]: row["ceiling_tokens_per_s"] for row in result["rows"] if row["backend"] == "numpy"
    }
    assert ceilings["tg128@d64"] < ceilings["tg128"]
    assert result["machine"]["threads"] == 1
    assert result["bandwidth"][0]["bytes_per_s"] > 0
    [ratio] = result["ratios"]
    assert ratio["to"] == "numpy, products alone"


def test_a_model_that_the_compiled_backend_refuses_is_measured_with_numpy(
    main: Callable[..., Any], tmp_path: Path
) -> None:
    path = model_files.write_gguf(tmp_path / "odd.gguf", model_files.TinyModel(head_dim=8))
    options = ["-m", str(path), "--threads", "1", "--repeat", "1", "--no-start", "--rows", "tg2"]
    ran = main("bench", *options, "--output", "json")
    assert ran.code == 0, ran.err
    assert "The compiled backend is left out: head_dim is 8" in ran.err
    assert json.loads(ran.out)["rows"][0]["backend"] == "numpy"
    assert main("bench", *options, "--backend", "jit").code == 1, "asked for, it is not left out"


def test_bench_start_runs_in_its_own_process(main: Callable[..., Any], tiny_model: Path) -> None:
    ran = main("bench", "-m", str(tiny_model), "--backend", "numpy", "--threads", "1", "--repeat", "1")
    assert ran.code == 0, ran.err
    last = ran.out.splitlines()[-1].split()
    assert last[0] == "numpy"
    resident, peak, *account = (float(cell.replace(",", "")) for cell in last[5:])  # MiB
    assert peak >= resident > 10
    assert len(account) == 3


@pytest.mark.parametrize("context", [5, 100, 128])
def test_bench_of_a_model_with_a_small_context(
    main: Callable[..., Any], tmp_path: Path, context: int
) -> None:
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(max_seq_len=context))
    options = ["-m", str(path), "--backend", "numpy", "--threads", "1", "--repeat", "1", "--no-start"]
    ran = main("bench", *options, "--output", "json")
    assert ran.code == 0, ran.err
    rows = {row["row"] for row in json.loads(ran.out)["rows"]}
    assert rows == {f"pp{context // 2}", f"tg{context // 2}"}
    asked = main("bench", *options, "--rows", "pp512")
    assert asked.code == 2
    half = context // 2
    assert f"context of {context} tokens; --rows pp{half} tg{half} would work" in asked.err


def test_bench_usage(main: Callable[..., Any], tiny_model: Path) -> None:
    assert main("bench", "--repeat", "0").code == 2
    assert main("bench", "--shape", "stories15M", "-m", "x").code == 2
    assert main("bench", "--backend", "cuda").code == 2
    assert main("bench", "--type", "Q4_K_M").code == 2
    assert main("bench", "--shape", "stories15M", "--type", "Q4_K_M").code == 2
    assert main("bench", "--shape", "stories15M", "--vs", "llama.cpp").code == 2
    assert main("bench", "-m", str(tiny_model), "--rows", "pp0").code == 2
    for lacking in (
        ["--vs", "ik"],
        ["--ik", "/x/llama-bench"],
        ["--vs", "llama.cpp", "--ik", "/x/llama-bench"],
    ):
        ran = main("bench", "-m", str(tiny_model), *lacking)
        assert (ran.code, "--vs ik --ik PATH/llama-bench" in ran.err) == (2, True)
    assert main("bench", "--busy", "100000", "-m", "/nowhere").code == 2  # so many programs are an accident
    assert main("bench", "--shape", "stories15M", "--tokenizer", "x").code == 2
    ran = main("bench", "--shape", "stories15M", "--backend", "numpy", "--kv", "q8")
    assert (ran.code, "--kv is for the compiled backend" in ran.err) == (2, True)


def test_a_peers_program_that_is_not_there_is_told(main: Callable[..., Any], tiny_model: Path) -> None:
    options = [
        "--no-start",
        "--backend",
        "numpy",
        "--rows",
        "pp8",
        "--vs",
        "ik",
        "--ik",
        "/nowhere/llama-bench",
    ]
    ran = main("bench", "-m", str(tiny_model), *options)
    assert ran.code == 1
    assert "/nowhere/llama-bench is no program; build ik_llama.cpp" in ran.err


def test_a_missing_file_is_found_before_anything_is_measured(
    main: Callable[..., Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "llama_core.profiling.bench.run.run_bench", lambda *a: pytest.fail("this is too late")
    )
    for options in (["-m", str(tmp_path / "none")], ["-m", str(tiny_model), "--tokenizer", str(tmp_path)]):
        ran = main("bench", "--no-start", "--backend", "numpy", *options)
        assert ran.code == 1
        assert ran.out == ""
        assert "none" in ran.err or "--tokenizer" in ran.err


def test_the_commands_names_are_the_cores() -> None:
    """They stand there a second time, because --help imports no NumPy."""
    from chat_app.commands.bench import IN_MEMORY, SHAPES, TYPES
    from llama_core.profiling.random_gguf import MIXES
    from llama_core.profiling.synthetic import SHAPES as CONFIGS

    assert (IN_MEMORY, *CONFIGS) == SHAPES
    assert sorted(TYPES) == sorted(MIXES)


def test_a_shape_is_made_once_and_measured(
    main: Callable[..., Any], llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_core.config import ModelConfig
    from llama_core.profiling import synthetic

    small = ModelConfig(64, 96, 2, 4, 2, 16, 600, 256, name="small")
    monkeypatch.setitem(synthetic.SHAPES, "1b", small)
    arguments = ["bench", "--shape", "1b", "--type", "Q8_0", "--backend", "numpy", "--threads", "1"]
    arguments += ["--repeat", "1", "--rows", "pp8", "tg4@d16", "--output", "json", "--no-start"]
    for made in (True, False):
        ran = main(*arguments)
        assert ran.code == 0, ran.err
        assert ("making" in ran.err) == made
        result = json.loads(ran.out)
        assert [row["row"] for row in result["rows"]] == ["pp8", "tg4@d16"]
        assert result["model"] == "small"
    [path] = (llama_chat_home / "cache" / "bench").iterdir()
    assert path.name == "random-1b-Q8_0.gguf"
