"""Each family against Hugging Face transformers: logits and greedy ids of tiny random models.

The references lie outside the repository (../shared/reference/architectures, see its README).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.jit import jit_available
from llama_core.backends.jit.plan import shape_problem
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.engine.load import load_engine
from llama_core.engine.passes import LEAST_GAP
from llama_core.events import Finished
from llama_core.loaders import open_checkpoint
from llama_core.loaders.convert import convert
from llama_core.sampling.params import SamplingParams
from tests.support import oracle_gguf

FAMILIES = [
    "ernie4_5", "exaone4", "gemma2", "gemma3", "gpt-oss", "granite", "granite-moe", "hunyuan-dense", "llama",
    "llama-3.1-rope", "ministral3", "mistral-window", "mixtral", "olmo2", "olmo3", "phi3",
    "phi4-mini-longrope", "qwen2", "qwen3", "qwen3-moe", "smollm3", "qwen3_5", "lfm2", "granite-hybrid",
]  # fmt: skip
# llama.cpp computes the file that its converter writes of a Mistral as a llama, without the window.
NO_GGUF = {"mistral-window"}
POSITIONS = [0, 31, 32, 33, 63, 64, 100, 149]
TOLERANCE = 1e-3


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, shared_reference: Path) -> Path:
    folder = shared_reference / "architectures" / request.param
    if not folder.is_dir():
        pytest.skip(f"no reference {folder}")
    return folder


def assert_equals_the_oracle(checkpoint: Checkpoint, folder: Path) -> None:
    oracle = np.load(folder / "oracle.npz")
    model = Llama(checkpoint.config, load_weights(checkpoint), threads=1)
    for n in (7, 40, 150):
        ids: NDArray[np.int32] = oracle[f"ids_{n}"].astype(np.int32)
        # LongRoPE's factors are chosen by the room in the cache, transformers' by the length of the text.
        cache = model.new_cache(n + 16)
        wanted = oracle[f"logits_{n}"]
        got = model.forward(ids, cache, logits="all").copy()
        got = got if n < 150 else got[POSITIONS]
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
        greedy: list[int] = []
        step = ids[:0]
        cache.truncate(n - 1)  # where layers have a state, to the beginning
        step = ids[cache.length :]
        for _ in range(16):
            step = np.array([np.argmax(model.forward(step, cache))], np.int32)
            greedy.append(int(step[0]))
        assert greedy == oracle[f"greedy_{n}"].tolist()


def test_the_folder(family: Path) -> None:
    assert_equals_the_oracle(open_checkpoint(family), family)


def test_the_gguf_file_that_llama_cpp_would_make(family: Path, tmp_path: Path) -> None:
    if family.name in NO_GGUF:
        pytest.skip("GGUF has no such model")
    path = oracle_gguf.write(family, tmp_path / "m.gguf")
    assert_equals_the_oracle(open_checkpoint(path), family)


def test_our_own_conversion(family: Path, tmp_path: Path) -> None:
    path = convert(family, tmp_path / "m.gguf", "f32")
    assert_equals_the_oracle(open_checkpoint(path), family)


def test_in_pieces_and_together(family: Path) -> None:
    """A text cut into passes, and two texts in one pass, give what one pass gives."""
    checkpoint = open_checkpoint(family)
    model: Any = Llama(checkpoint.config, load_weights(checkpoint), threads=1)
    ids = np.load(family / "oracle.npz")["ids_150"].astype(np.int32)
    whole, cut, other = (model.new_cache(160) for _ in range(3))
    expected = model.forward(ids, whole, logits="all").copy()
    for start, stop in ((0, 1), (1, 66), (66, 149)):
        rows = model.forward(ids[start:stop], cut, logits="all")
        np.testing.assert_allclose(rows, expected[start:stop], rtol=0, atol=TOLERANCE)
    model.forward(ids[:64], other)
    both = model.forward_batch([(ids[149:], cut), (ids[64:80], other)])
    np.testing.assert_allclose(both, expected[[149, 79]], rtol=0, atol=TOLERANCE)


WITH_STATES = ("granite-hybrid", "lfm2", "qwen3_5")


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_a_chat_with_it_reads_what_is_new(
    shared_reference: Path, kernel_cache: Path, backend: Literal["numpy", "auto"]
) -> None:
    """From the folder to text and back: tokenizer, template, ends."""
    for name in WITH_STATES:
        folder = shared_reference / "architectures" / name
        if not folder.is_dir():
            pytest.skip(f"no reference {folder}")
        engine = load_engine(folder, backend=backend, threads=1, kernel_cache=kernel_cache)
        assert engine.backend.startswith("jit" if backend == "auto" and not jit_available() else "numpy")
        params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
        messages = [{"role": "user", "content": "A question of some length, and then a second one. " * 3}]
        *_, first = engine.chat(messages, params)
        assert isinstance(first, Finished)
        prompt_n = first.timings.prompt_n
        *_, again = engine.chat(messages, params)
        assert isinstance(again, Finished)
        assert (again.ids, again.timings.cache_n + again.timings.prompt_n) == (first.ids, prompt_n)
        assert again.timings.prompt_n <= LEAST_GAP
        engine.close()


def test_the_compiled_backend_runs_it(family: Path) -> None:
    assert shape_problem(open_checkpoint(family).config) is None
