"""Each family on the compiled backend, beside an independent implementation's logits.

The models are random and small. Their weights are float32, which stay what they are, so that nothing is
rounded but float32 itself. What 8-bit activations cost is seen where the same weights are Q8_0: on rows of 64
numbers it is a cosine of 0.9995, and now and then another greedy token.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.jit import load_jit_model
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.loaders import open_checkpoint
from llama_core.loaders.convert import convert
from tests.support import oracle_gguf

WITH_STATES = ("lfm2", "granite-hybrid", "qwen3_5")
RUN = (
    *("ernie4_5", "exaone4", "gemma2", "gemma3", "granite", "hunyuan-dense", "llama", "llama-3.1-rope"),
    *("ministral3", "mistral-window", "olmo2", "olmo3", "phi3", "phi4-mini-longrope", "qwen2", "qwen3"),
    *("gpt-oss", "granite-moe", "mixtral", "qwen3-moe", "smollm3", *WITH_STATES),
)
TOLERANCE = 1e-3
# With 8-bit activations, of all positions. Not of Qwen3.5: on keys of sixteen numbers, whose lengths become
# 1, the noise is several times as large; `test_recurrent.py` has longer ones.
LEAST_COSINE, MEAN_COSINE = 0.995, 0.999
# Positions of the longest prompt whose logits are on record.
SHOWN = [0, 31, 32, 33, 63, 64, 100, 149]


@pytest.fixture
def folder(shared_reference: Path, request: pytest.FixtureRequest) -> Path:
    folder = shared_reference / "architectures" / request.param
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def logits_of(model: Any, ids: NDArray[np.int32], cache: Any) -> NDArray[np.float32]:
    """Of all positions."""
    step = model.prefill_chunk
    rows = [model.forward(ids[i : i + step], cache, logits="all").copy() for i in range(0, len(ids), step)]
    return np.concatenate(rows)


@pytest.mark.parametrize("folder", RUN, indirect=True)
def test_float32_weights_give_the_oracle_s_logits_and_greedy_ids(folder: Path, kernel_cache: Path) -> None:
    assert_equals_the_oracle(folder, folder, kernel_cache)


@pytest.mark.parametrize("folder", WITH_STATES, indirect=True)
def test_so_does_the_file_that_llama_cpp_would_make(folder: Path, kernel_cache: Path, tmp_path: Path) -> None:
    assert_equals_the_oracle(oracle_gguf.write(folder, tmp_path / "m.gguf"), folder, kernel_cache)


def assert_equals_the_oracle(path: Path, folder: Path, kernel_cache: Path) -> None:
    oracle = np.load(folder / "oracle.npz")
    model = load_jit_model(open_checkpoint(path), threads=2, kernel_cache=kernel_cache, kv="f32")
    for n in (7, 40, 150):
        ids = oracle[f"ids_{n}"].astype(np.int32)
        # LongRoPE's factors are chosen by the room in the cache, transformers' by the length of the text.
        cache = model.new_cache(n + 16)
        logits = logits_of(model, ids, cache)
        wanted = oracle[f"logits_{n}"]
        np.testing.assert_allclose(logits[SHOWN] if n == 150 else logits, wanted, rtol=0, atol=TOLERANCE)
        greedy = [int(logits[-1].argmax())]
        while len(greedy) < 16:
            greedy.append(int(model.forward(np.array(greedy[-1:], np.int32), cache).argmax()))
        assert greedy == oracle[f"greedy_{n}"].tolist()
    model.close()


@pytest.mark.parametrize("folder", [name for name in RUN if name != "qwen3_5"], indirect=True)
def test_quantised_weights_give_numpy_s_logits(folder: Path, kernel_cache: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(convert(folder, tmp_path / "m.gguf", "q8_0"))
    # All experts are taken: in random models scores lie so near each other that rounding turns choices.
    config = replace(checkpoint.config, n_experts_used=checkpoint.config.n_experts)
    checkpoint = replace(checkpoint, config=config)
    model = load_jit_model(checkpoint, threads=2, kernel_cache=kernel_cache, kv="f32")
    numpy = Llama(checkpoint.config, load_weights(checkpoint), threads=1)
    ids = np.load(folder / "oracle.npz")["ids_150"].astype(np.int32)
    ours, theirs = (logits_of(m, ids, m.new_cache(160)) for m in (model, numpy))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / lengths
    assert cosines.mean() > MEAN_COSINE
    assert cosines.min() > LEAST_COSINE
    model.close()
