"""Each family on the compiled backend, beside an independent implementation's logits.

The models are random and small, and their float32 weights become 8-bit blocks here, as do the activations.
What that costs is seen in the plainest of them, Llama: a cosine of 0.998, and now and then another greedy
token. A norm, scale or window that were left out would cost a hundred times as much.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llama_core.backends.jit import load_jit_model
from llama_core.errors import UnsupportedModelError
from llama_core.loaders import open_checkpoint

RUN = (
    *("ernie4_5", "exaone4", "gemma2", "gemma3", "granite", "hunyuan-dense", "llama", "llama-3.1-rope"),
    *("ministral3", "mistral-window", "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "smollm3"),
)
DECLINED = {
    "gpt-oss": "it has experts",
    "granite-moe": "it has experts",
    "mixtral": "it has experts",
    "qwen3-moe": "it has experts",
    "phi4-mini-longrope": "its RoPE is scaled by LongRoPE",
}
LEAST_COSINE = 0.996
# Positions of the longest prompt whose logits are on record.
SHOWN = [0, 31, 32, 33, 63, 64, 100, 149]


@pytest.fixture
def folder(shared_reference: Path, request: pytest.FixtureRequest) -> Path:
    folder = shared_reference / "architectures" / request.param
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("folder", RUN, indirect=True)
def test_logits_point_where_the_oracle_s_do(folder: Path, kernel_cache: Path) -> None:
    oracle = np.load(folder / "oracle.npz")
    model = load_jit_model(open_checkpoint(folder), threads=2, kernel_cache=kernel_cache, kv="f32")
    first_tokens = 0
    for n in (7, 40, 150):
        ids = oracle[f"ids_{n}"].astype(np.int32)
        cache = model.new_cache(n)
        step = model.prefill_chunk
        rows = [model.forward(ids[i : i + step], cache, logits="all").copy() for i in range(0, n, step)]
        logits = np.concatenate(rows)
        wanted = oracle[f"logits_{n}"]
        for ours, theirs in zip(logits[SHOWN] if n == 150 else logits, wanted, strict=True):
            assert cosine(ours, theirs) > LEAST_COSINE
        first_tokens += int(logits[-1].argmax()) in wanted[-1].argsort()[-2:]
    assert first_tokens == 3  # of the two likeliest, which may be near each other
    model.close()


@pytest.mark.parametrize("folder", DECLINED, indirect=True)
def test_what_it_does_not_run_is_declined_in_a_sentence(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=DECLINED[folder.name]):
        load_jit_model(open_checkpoint(folder))
