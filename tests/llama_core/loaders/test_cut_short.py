"""A model's file that is cut short while it is open: a sentence, never a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit import load_jit_model
from llama_core.backends.numpy.weights import load_weights
from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.convert import convert
from tests.support import model_files

MODEL = model_files.TinyModel(n_heads=4, n_kv_heads=2, head_dim=16)
STORIES = model_files.TinyModel()
FORMATS: dict[str, Callable[[Path], Path]] = {
    "gguf": lambda folder: model_files.write_gguf(folder / "m.gguf", MODEL, "Q8_0"),
    "safetensors": lambda folder: model_files.write_hf_folder(folder / "hf", MODEL),
    "llama2c": lambda folder: model_files.write_llama2c(folder / "m.bin", MODEL),
    "npz": lambda folder: model_files.write_npz(folder / "m.npz", STORIES),
}


def written(kind: str, folder: Path) -> tuple[Path, Path]:
    """A model, and the file that holds its weights."""
    path = FORMATS[kind](folder)
    if kind == "llama2c":
        model_files.write_tokenizer_bin(folder / "tokenizer.bin", MODEL.vocab_size)
    if kind == "npz":
        model_files.write_tokenizer_np(folder / "tokenizer.model.np", STORIES.vocab_size)
    return path, next(path.glob("*.safetensors")) if path.is_dir() else path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("left", [0, 1000])
def test_before_its_weights_are_loaded(kind: str, left: int, tmp_path: Path, kernel_cache: Path) -> None:
    path, file = written(kind, tmp_path)
    checkpoint = open_checkpoint(path)
    os.truncate(file, left)
    loads: list[Callable[[], Any]] = [lambda: load_weights(checkpoint)]
    if kind != "npz":  # whose heads are too narrow for the kernels
        loads.append(lambda: load_jit_model(checkpoint, kernel_cache=kernel_cache))
    for load in loads:
        with pytest.raises(ModelFormatError, match=r"the file ends here; it had .* was cut short since"):
            load()


def test_while_it_is_converted(tmp_path: Path) -> None:
    path, file = written("safetensors", tmp_path)
    cut = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal cut
        cut += 1
        os.truncate(file, 2000)

    with pytest.raises(ModelFormatError, match="the file ends here"):
        convert(path, tmp_path / "out.gguf", "q8_0", on_progress=on_progress)
    assert cut
    assert not (tmp_path / "out.gguf").exists()


def test_while_the_compiled_model_runs(tmp_path: Path, kernel_cache: Path) -> None:
    """It reads the embeddings of its tokens. The cache keeps its length; a whole file is as good again."""
    path, file = written("gguf", tmp_path)
    whole = file.read_bytes()
    model = load_jit_model(open_checkpoint(path), kernel_cache=kernel_cache)
    cache = model.new_cache(32)
    ids = np.arange(20, 26, dtype=np.int32)
    model.forward(ids[:3], cache)
    wanted = model.forward(ids[3:], cache).copy()
    cache.truncate(3)
    os.truncate(file, 4096)
    with pytest.raises(ModelFormatError, match="Put it back whole and load the model again"):
        model.forward(ids[3:], cache)
    assert cache.length == 3
    with file.open("r+b") as again:
        again.write(whole)
    np.testing.assert_array_equal(model.forward(ids[3:], cache), wanted)
    model.close()


def test_no_signal_ends_the_process(tmp_path: Path, kernel_cache: Path) -> None:
    """A mapped page that is no more would end it by SIGBUS."""
    path, _ = written("gguf", tmp_path)
    code = """
import os, sys
from pathlib import Path
import numpy as np
from llama_core.engine.load import load_engine
from llama_core.errors import LlamaCoreError
from llama_core.sampling.params import SamplingParams
path, kernels = map(Path, sys.argv[1:])
engine = load_engine(path, backend="jit", kernel_cache=kernels)
os.truncate(path, 0)
try:
    list(engine.engine.generate([5, 6, 7], SamplingParams(max_tokens=3)))
except LlamaCoreError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(path), str(kernel_cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "was cut short since" in done.stdout
