"""What `models inspect` tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from llama_core.loaders.inspect import inspect


def test_inspect_tells_what_is_in_each_format(model_files: ModuleType, tmp_path: Path) -> None:
    model = model_files.TinyModel(tied=False)
    n_values = sum(weight.size for weight in model.weights.values())
    for path, found in (
        (model_files.write_gguf(tmp_path / "m.gguf", model), "gguf"),
        (model_files.write_hf_folder(tmp_path / "hf", model), "safetensors"),
        (model_files.write_llama2c(tmp_path / "m.bin", model), "llama2c"),
        (model_files.write_npz(tmp_path / "m.npz", model), "npz"),
    ):
        report = inspect(path)
        assert json.loads(json.dumps(report)) == report, "plain JSON values only"
        assert (report["format"], report["runs"], report["architecture"]) == (found, True, "llama")
        assert report["parameters"] == n_values
        assert report["types"] == [
            {"type": "F32", "tensors": len(model.weights), "values": n_values, "bytes": 4 * n_values}
        ]
        assert report["memory"]["numpy"]["weights_bytes"] == 4 * n_values
        assert report["memory"]["numpy"]["kv_bytes"] == report["config"]["max_seq_len"] * 2 * 2 * 32 * 4
        assert len(report["tensors"]) == len(model.weights)


def test_inspect_reports_a_model_that_does_not_run(model_files: ModuleType, tmp_path: Path) -> None:
    path = model_files.write_gguf(
        tmp_path / "m.gguf", model_files.TinyModel(), extra={"general.architecture": "bloom"}
    )
    report = inspect(path)
    assert (report["runs"], report["architecture"]) == (False, "bloom")
    assert "'bloom'; llama, mistral, qwen2, qwen3 models would work" in report["problem"]
    assert report["tokenizer"]["tokens"] == len(model_files.byte_level_vocabulary(300)[0])


@pytest.mark.model
def test_inspect_of_the_default_model_imports_little(default_model: Path) -> None:
    """Its promise of 0.3 s rests on what it does not import."""
    code = (
        "import sys, json; from pathlib import Path; from llama_core.loaders.inspect import inspect\n"
        f"report = inspect(Path({str(default_model)!r}))\n"
        "heavy = {'regex', 'jinja2', 'numba', 'llama_core.tokenizers.from_gguf'} & set(sys.modules)\n"
        "print(json.dumps([report['parameters'], report['types'][0]['type'], sorted(heavy)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [134515008, "Q4_1", []]
