"""What `models inspect` tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_core.backends.jit import load_jit_model
from llama_core.backends.jit.weights import PackedWeights, checked_plan
from llama_core.backends.numpy.weights import load_weights
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.cursor import Cursor, Skipped
from llama_core.loaders.gguf.header import read_header
from llama_core.loaders.inspect import inspect
from llama_core.memory_needed import memory_needed
from tests.support import model_files


def test_inspect_tells_what_is_in_each_format(tmp_path: Path) -> None:
    model = model_files.TinyModel(tied=False)
    n_values = sum(weight.size for weight in model.weights.values())
    for path, found in (
        (model_files.write_gguf(tmp_path / "m.gguf", model), "gguf"),
        (model_files.write_hf_folder(tmp_path / "hf", model), "safetensors"),
        (model_files.write_llama2c(tmp_path / "m.bin", model), "llama2c"),
        (model_files.write_npz(tmp_path / "m.npz", model), "npz"),
    ):
        report = inspect(path, memory_needed)
        assert json.loads(json.dumps(report)) == report, "plain JSON values only"
        assert (report["format"], report["runs"], report["architecture"]) == (found, True, "llama")
        assert report["parameters"] == n_values
        assert report["types"] == [
            {"type": "F32", "tensors": len(model.weights), "values": n_values, "bytes": 4 * n_values}
        ]
        assert report["memory"]["numpy"]["weights_bytes"] == 4 * n_values
        assert report["memory"]["numpy"]["kv_bytes"] == report["config"]["max_seq_len"] * 2 * 2 * 32 * 4
        assert len(report["tensors"]) == len(model.weights)


def test_inspect_reports_a_model_that_does_not_run(tmp_path: Path) -> None:
    path = model_files.write_gguf(
        tmp_path / "m.gguf", model_files.TinyModel(), extra={"general.architecture": "bloom"}
    )
    report = inspect(path)
    assert (report["runs"], report["architecture"]) == (False, "bloom")
    assert "'bloom'; llama, mistral, mistral3, qwen2, " in report["problem"]
    assert report["tokenizer"]["tokens"] == len(model_files.byte_level_vocabulary(300)[0])


def test_what_it_tells_of_the_tokenizer(tmp_path: Path) -> None:
    """As a start would find it, in whatever file it stands."""
    model = model_files.TinyModel(tied=False)
    ids = {"add_bos_token": True, "bos_token_id": 1, "eos_token_id": 2, "end_token_ids": [1, 2]}
    by_scores = {"present": True, "tokens": 300, **ids}
    for path, expected in (
        (
            model_files.write_gguf(tmp_path / "m.gguf", model),
            {"tokens": 300, "kind": "gpt2", "pre_tokenizer": "gpt-2", "bos_token_id": 1, "eos_token_id": 0},
        ),
        (
            model_files.write_llama2c(tmp_path / "m.bin", model),
            {"file": "tokenizer.bin", "kind": "BPE by scores (llama2.c)", **by_scores},
        ),
        (
            model_files.write_npz(tmp_path / "m.npz", model),
            {"file": "tokenizer.model.np", "kind": "BPE by scores (llama3.np)", **by_scores},
        ),
    ):
        assert inspect(path)["tokenizer"] == expected
    found = inspect(model_files.write_hf_folder(tmp_path / "hf", model))["tokenizer"]
    kind = found.pop("kind")
    assert kind.startswith("byte-level BPE")
    assert found == {
        "file": "tokenizer.json",
        "present": True,
        "tokens": 300,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "add_bos_token": False,
        "end_token_ids": [0],
    }


def test_what_is_wrong_with_the_tokenizer_is_told(tmp_path: Path) -> None:
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel())
    (folder / "tokenizer.json").write_text("{")
    assert "JSON: is not valid" in inspect(folder)["tokenizer"]["problem"]
    (folder / "tokenizer.json").unlink()
    assert inspect(folder)["tokenizer"] == {"file": "tokenizer.json", "present": False}


def test_the_template_is_the_one_that_a_chat_uses(tmp_path: Path) -> None:
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel())
    assert "chat_template" not in inspect(folder)
    config = folder / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": named}))
    assert inspect(folder)["chat_template"] == open_checkpoint(folder).chat_template == "plain"
    (folder / "tokenizer.json").write_text("{")
    assert inspect(folder)["chat_template"] == "plain"
    (folder / "chat_template.jinja").write_text("its own file")
    assert inspect(folder)["chat_template"] == "its own file"


# Tensor types by which the packed size is decided: one for all, several, in one matrix too.
TYPES: dict[str, dict[str, str]] = {
    "kept": {},
    "a head of its own": {"lm_head": "Q8_0"},
    "q, k and v of two types": {"v_proj": "Q8_0"},
    "floats": {"down_proj": "BF16", "gate_proj": "F32"},
}


@pytest.mark.parametrize("name", TYPES)
def test_the_memory_is_what_the_backends_take(tmp_path: Path, name: str) -> None:
    shape = {"dim": 128, "hidden_dim": 192, "n_heads": 8, "head_dim": 16, "tied": name == "kept"}
    model = model_files.TinyModel(bias=True, more_biases=True, **shape)
    path = model_files.write_gguf(tmp_path / "m.gguf", model, "Q4_0", TYPES[name])
    checkpoint = open_checkpoint(path)
    memory = inspect(path, memory_needed)["memory"]
    idle = SimpleNamespace(pack=lambda *_: None, stream=lambda *_: None)
    packed = PackedWeights(checked_plan(checkpoint), idle, 1)
    assert memory["jit"]["weights_bytes"] == packed.nbytes
    assert memory["jit"]["mapped_bytes"] == packed.embedding.nbytes > 0
    assert memory["jit"]["bytes"] == packed.nbytes + memory["jit"]["kv_bytes"]
    assert memory["numpy"]["weights_bytes"] == load_weights(checkpoint).nbytes


def test_why_a_backend_cannot_run_a_model(tmp_path: Path, kernel_cache: Path) -> None:
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel())
    memory = inspect(path, memory_needed)["memory"]
    assert memory["numpy"]["weights_bytes"] > 0
    assert memory["jit"] == {"problem": "head_dim is 8; the compiled backend needs a multiple of 16"}
    # The backend's own refusal, in the same words.
    with pytest.raises(UnsupportedModelError, match=memory["jit"]["problem"]):
        load_jit_model(open_checkpoint(path), kernel_cache=kernel_cache)


def test_long_lists_are_told_by_their_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer's strings are passed over, not read; wrong lengths show all the same."""
    strings = Cursor.strings

    def only_skimmed(cursor: Cursor, count: int, what: str) -> list[str] | Skipped:
        assert cursor.skim
        return strings(cursor, count, what)

    tokens = [f"token {n}" for n in range(2000)]
    extra = {"tokenizer.ggml.tokens": tokens, "some.list": ["a", "b"]}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    assert isinstance(read_header(path, skim=True).metadata["tokenizer.ggml.tokens"], Skipped)
    with monkeypatch.context() as patch:
        patch.setattr(Cursor, "strings", only_skimmed)
        report = inspect(path)
    assert report["tokenizer"]["tokens"] == 2000
    assert report["metadata"]["tokenizer.ggml.tokens"] == "2,000 values"
    assert report["metadata"]["some.list"] == ["a", "b"]
    content = path.read_bytes()
    at = content.index(b"token 1999")
    path.write_bytes(content[: at - 8] + b"\xff" * 8 + content[at:])
    with pytest.raises(ModelFormatError, match=r"string 1,999 of .* claims"):
        inspect(path)


# What the app, the engine and the tokenizers need and a look at a file does not.
HEAVY = (
    *("jinja2", "numba", "llvmlite", "textual", "rich", "regex", "psutil", "threadpoolctl", "asyncio"),
    *("concurrent.futures", "hashlib", "subprocess", "huggingface_hub"),  # logging: every command has a log
    *(
        "llama_core.quant.dequantize",
        "llama_core.tokenizers.gguf.read",
        "llama_core.tokenizers.huggingface.tokenizer_json",
    ),
    *(
        "llama_core.loaders.huggingface.folder",
        "llama_core.loaders.llama2c",
        "llama_core.loaders.tokenizer_files",
    ),
    *(
        "llama_core.backends.numpy.model",
        "llama_core.backends.jit.model",
        "llama_core.backends.jit.weights",
        "llama_core.engine.engine",
    ),
)


def test_a_look_at_a_file_imports_little(tmp_path: Path) -> None:
    """The whole command: its promise of 0.3 s rests on what it does not import."""
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel())
    code = (
        "import sys; from chat_app.cli import main\n"
        f"code = main(['models', 'inspect', {str(path)!r}])\n"
        f"print('HEAVY', code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "HEAVY 0 []"


@pytest.mark.model
def test_inspect_of_the_default_model(default_model: Path) -> None:
    report = inspect(default_model, memory_needed)
    assert (report["parameters"], report["types"][0]["type"]) == (134515008, "Q4_1")
    assert report["tokenizer"]["tokens"] == 49152
    assert report["memory"]["jit"]["weights_bytes"] < 97_000_000
