"""The baseline computes what the engine computes, and keeps the faults that the experiments remove."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.config import RopeScaling
from llama_core.engine.engine import Engine
from llama_core.errors import UnsupportedModelError
from llama_core.events import TokenEvent
from llama_core.loaders import open_checkpoint
from llama_core.profiling.first_version.model import BaselineLlama, Leaks, apply_rope, rope_tables
from llama_core.sampling.params import SamplingParams

PROMPT = [3, 141, 59, 26, 53, 58, 97, 93]
CLOSED = Leaks(rope=False, cache=False, mask=False)


def logits_dtype(checkpoint: Checkpoint, leaks: Leaks, n_tokens: int) -> np.dtype:
    return BaselineLlama(checkpoint, 64, leaks=leaks)(np.array([PROMPT[:n_tokens]]), 0).dtype


@pytest.mark.parametrize(
    ("leaks", "prefill", "decode"),
    [
        (Leaks(), np.float64, np.float64),
        (Leaks(rope=True, cache=False, mask=False), np.float64, np.float64),
        (Leaks(rope=False, cache=True, mask=False), np.float64, np.float64),
        # One token needs no mask, so this leak costs the prompt alone.
        (Leaks(rope=False, cache=False, mask=True), np.float64, np.float32),
        (CLOSED, np.float32, np.float32),
    ],
)
def test_each_leak_alone_turns_the_logits_to_float64(
    toy_checkpoint: Checkpoint, leaks: Leaks, prefill: type, decode: type
) -> None:
    assert logits_dtype(toy_checkpoint, leaks, len(PROMPT)) == prefill
    assert logits_dtype(toy_checkpoint, leaks, 1) == decode


def test_leaks_change_speed_and_not_tokens(toy_checkpoint: Checkpoint) -> None:
    published = list(BaselineLlama(toy_checkpoint, 64).generate(PROMPT, 24))
    closed = list(BaselineLlama(toy_checkpoint, 64, leaks=CLOSED).generate(PROMPT, 24))
    assert published == closed
    assert len(published) == 24


def test_the_cache_agrees_with_computing_everything_again(toy_checkpoint: Checkpoint) -> None:
    ids = list(PROMPT)
    for _ in range(8):
        logits = BaselineLlama(toy_checkpoint, 64)(np.array([ids]), 0)
        ids.append(int(logits[0, -1].argmax()))
    assert list(BaselineLlama(toy_checkpoint, 64).generate(PROMPT, 8)) == ids[len(PROMPT) :]


def test_the_slip_leaves_a_hole_after_the_prompt(toy_checkpoint: Checkpoint) -> None:
    straight = BaselineLlama(toy_checkpoint, 64)
    slipped = BaselineLlama(toy_checkpoint, 64, position_slip=True)
    first = (next(straight.generate(PROMPT, 1)), next(slipped.generate(PROMPT, 1)))
    assert first[0] == first[1]
    assert list(straight.generate(PROMPT, 24)) != list(slipped.generate(PROMPT, 24))
    hole = len(PROMPT)
    assert not slipped.blocks[0].attention.cache_k[0, hole].any()
    assert slipped.blocks[0].attention.cache_k[0, hole + 1].any()
    assert straight.blocks[0].attention.cache_k[0, hole].any()


def test_generation_ends_where_the_tables_end(toy_checkpoint: Checkpoint) -> None:
    assert len(list(BaselineLlama(toy_checkpoint, 12).generate(PROMPT, 100))) == 12 - len(PROMPT) + 1


def test_rope_keeps_lengths_and_turns_by_position() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 5, 2, 8))
    cos, sin = rope_tables(8, 5, 10000.0)
    turned, _ = apply_rope(x, x, cos, sin)
    np.testing.assert_allclose(turned[:, 0], x[:, 0])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1))
    as_complex = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * np.angle(cos + 1j * sin))[None, :, None, :]
    np.testing.assert_allclose(turned[..., 0::2], as_complex.real, atol=1e-12)
    np.testing.assert_allclose(turned[..., 1::2], as_complex.imag, atol=1e-12)


def test_what_first_versions_lack_is_refused(toy_checkpoint: Checkpoint) -> None:
    scaled = replace(toy_checkpoint.config, rope_scaling=RopeScaling("linear", 2.0))
    with pytest.raises(UnsupportedModelError, match="plain Llama"):
        BaselineLlama(replace(toy_checkpoint, config=scaled))


def engine_tokens(checkpoint: Checkpoint, prompt: list[int], n: int) -> list[int]:
    model = Llama(checkpoint.config, load_weights(checkpoint))
    try:
        params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
        return [
            event.id for event in Engine(model, 256).generate(prompt, params) if isinstance(event, TokenEvent)
        ]
    finally:
        model.close()


def test_the_baseline_and_the_engine_give_the_same_greedy_tokens(toy_checkpoint: Checkpoint) -> None:
    ours = engine_tokens(toy_checkpoint, PROMPT, 64)
    assert list(BaselineLlama(toy_checkpoint, 128).generate(PROMPT, 64)) == ours
    assert list(BaselineLlama(toy_checkpoint, 128, position_slip=True).generate(PROMPT, 64)) != ours


@pytest.mark.model
def test_the_same_on_the_default_model(default_model: Path) -> None:
    checkpoint = open_checkpoint(default_model)
    prompt = checkpoint.tokenizer.encode("The capital of France is")
    published = list(
        BaselineLlama(checkpoint, 64, leaks=Leaks(mask=True, rope=False, cache=False)).generate(prompt, 6)
    )
    assert published == engine_tokens(checkpoint, prompt, 6)
    assert "Paris" in checkpoint.tokenizer.decode(published)


@pytest.mark.slow
@pytest.mark.model
def test_the_published_leaks_on_the_default_model(default_model: Path) -> None:
    checkpoint = open_checkpoint(default_model)
    prompt = checkpoint.tokenizer.encode("The three largest planets are")
    assert list(BaselineLlama(checkpoint, 96).generate(prompt, 48)) == engine_tokens(checkpoint, prompt, 48)
