"""What a model asks of a machine, counted from its header; and how its speed follows from the rates."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from llama_core.estimate import (
    EXPERTS_EXAMPLE,
    F32_BYTES,
    FILE_BITS,
    PROMPT_TOKENS,
    Work,
    expected,
    rough_work,
    works_of,
)
from llama_core.loaders import read_model, skim_model
from llama_core.profiling.synthetic import random_checkpoint
from llama_core.roofline.rates import MachineRates
from tests.support.tiny_chat import write_tiny_chat

RATES = MachineRates(30e9, 400e9, 60e9)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_chat(tmp_path / "tiny.gguf")


def work(works: dict[str, Work | str], backend: str) -> Work:
    found = works[backend]
    assert isinstance(found, Work), found
    return found


def test_a_model_is_counted_from_its_header(tiny: Path) -> None:
    model = skim_model(tiny)
    matrices = [t for name, t in model.tensors.items() if len(t.shape) == 2 and name != "embed_tokens"]
    values = sum(math.prod(t.shape) for t in matrices)
    head = math.prod(model.tensors["embed_tokens"].shape)
    works = works_of(model.config, model.tensors)
    for backend, number_bytes in (("numpy", 4), ("jit", 2)):
        found = work(works, backend)
        kv_bytes = 2 * 2 * model.config.kv_dim * number_bytes * PROMPT_TOKENS
        assert found.token_bytes == F32_BYTES * (values + head) + kv_bytes
        assert (found.integer_ops, found.float_ops) == (0, values), "the file's weights are floats"
        assert found.memory_bytes > F32_BYTES * (values + head)


def test_quantised_weights_are_multiplied_as_integers(tiny: Path, tmp_path: Path) -> None:
    from llama_core.loaders.convert import convert

    model = read_model(convert(tiny, tmp_path / "q8.gguf", "q8_0"))
    works = works_of(model.config, model.tensors)
    jit, numpy = work(works, "jit"), work(works, "numpy")
    assert jit.float_ops == numpy.integer_ops == 0
    assert jit.integer_ops == numpy.float_ops > 0
    assert jit.token_bytes < numpy.token_bytes / 2


def test_a_shape_that_is_declined_is_told_in_the_backends_own_words() -> None:
    from llama_core.profiling.synthetic import NoTokenizer

    config = replace(EXPERTS_EXAMPLE, n_experts=0, n_experts_used=0, architecture="llama", head_dim=8)
    works = works_of(config, random_checkpoint(config, NoTokenizer()).tensors)
    assert isinstance(works["numpy"], Work)
    assert works["jit"] == "head_dim is 8; the compiled backend needs a multiple of 16"


def test_of_experts_only_those_that_a_token_takes_are_read() -> None:
    from llama_core.profiling.synthetic import NoTokenizer

    def numpy_work(used: int) -> Work:
        config = replace(EXPERTS_EXAMPLE, n_experts=4, n_experts_used=used)
        checkpoint = random_checkpoint(config, NoTokenizer())
        return work(works_of(config, checkpoint.tensors), "numpy")

    one, four = numpy_work(1), numpy_work(4)
    expert = 3 * EXPERTS_EXAMPLE.dim * EXPERTS_EXAMPLE.hidden_dim
    assert four.float_ops - one.float_ops == 3 * expert
    assert four.token_bytes - one.token_bytes == 3 * expert * F32_BYTES


@pytest.mark.parametrize("backend", ["jit", "numpy"])
def test_speed_follows_the_rates(backend: str) -> None:
    one = rough_work(2_000_000_000, "Q4_K_M", backend)
    slow = expected(one, backend, RATES)
    fast = expected(one, backend, MachineRates(60e9, 800e9, 120e9))
    assert 1.8 < fast.decode_per_s / slow.decode_per_s <= 2
    assert 1.8 < slow.first_token_s / fast.first_token_s <= 2
    assert slow.decode_per_s < RATES.bytes_per_s / one.token_bytes, "never faster than memory allows"


def test_a_part_of_the_weights_is_a_part_of_the_time() -> None:
    whole, part = rough_work(10**10, "Q4_K_M", "jit"), rough_work(10**10, "Q4_K_M", "jit", 0.1)
    assert whole.memory_bytes == part.memory_bytes
    ratio = expected(part, "jit", RATES).decode_per_s / expected(whole, "jit", RATES).decode_per_s
    assert 9 < ratio <= 10
    assert rough_work(10**10, "Q4_K_M", "numpy").memory_bytes > 5 * whole.memory_bytes


def test_every_type_of_the_catalogue_is_known() -> None:
    from chat_app.models.hub_models import HUB_MODELS

    assert {model.type for model in HUB_MODELS} <= set(FILE_BITS)


def test_every_family_is_counted(shared_reference: Path) -> None:
    """Also those whose layers have a state instead of attention."""
    folders = [path.parent for path in (shared_reference / "architectures").glob("*/config.json")]
    assert len(folders) > 20
    for folder in folders:
        model = read_model(folder)
        works = works_of(model.config, model.tensors)
        assert works.keys() == {"jit", "numpy"}
        numpy = work(works, "numpy")
        assert min(numpy.token_bytes, numpy.float_ops, numpy.memory_bytes) > 0, folder.name
