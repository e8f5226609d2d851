"""Models with a state are kept with it: what comes back ends where a state is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.backends.jit import load_jit_model
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from llama_core.engine.engine import Engine
from tests.chat_app.kv_files.conftest import BACKENDS, Chatting, words
from tests.llama_core.backends.jit.conftest import make_checkpoint

HYBRID = ModelConfig(
    architecture="qwen35",
    dim=24,
    hidden_dim=40,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    head_dim=8,
    vocab_size=256,
    max_seq_len=512,
    recurrent_layers=(True, False, True),
    conv_kernel=3,
    state_heads=6,
    state_head_dim=5,
    state_dim=7,
    state_groups=2,
    qk_norm=True,
)


# What the compiled backend can take.
WIDE = {"dim": 32, "head_dim": 16, "state_head_dim": 16, "state_dim": 16}


@pytest.fixture(params=BACKENDS)
def begun(
    trusted_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel_cache: Path,
    request: pytest.FixtureRequest,
) -> Iterator[list[Chatting]]:
    """Two starts of the program with one hybrid model."""
    monkeypatch.setattr("chat_app.kv_files.folder.FREE_BYTES", 0)
    path = tmp_path / "model.gguf"
    path.write_bytes(b"a hybrid")

    def start() -> Chatting:
        model: Any
        if request.param == "jit":
            shape = {field.name: getattr(HYBRID, field.name) for field in fields(HYBRID)} | WIDE
            model = load_jit_model(make_checkpoint("F32", 2, **shape), threads=1, kernel_cache=kernel_cache)
        else:
            model = Llama(HYBRID, random_weights(HYBRID, 2), threads=1)
        text: Any = SimpleNamespace(
            model=model, engine=Engine(model, 512), ctx_size=512, backend=model.backend, close=model.close
        )
        return Chatting(text, path, trusted_folder / "kv")

    both = [start(), start()]
    yield both
    for one in both:
        one.close()


def test_the_state_comes_back_with_the_positions(begun: list[Chatting]) -> None:
    first, second = begun
    before = first.reply(words(0, 60))
    ids = [*first.reply([*before, *words(1, 60)]), *words(2, 5)]
    first.keeper.close()
    expected = first.logits(ids)
    assert second.keeper.restore("chat", ids).n == len(ids) - 6  # type: ignore[union-attr]
    assert second.logits(ids) == expected
    # The end of the first reply is a place to go back to.
    branch = [*before, *words(5, 40)]
    expected = first.logits(branch)
    second.logits(branch)
    assert second.engine.reachable(len(before) - 1) == len(before) - 1
    assert second.logits(branch) == expected


def test_what_ends_between_two_states_comes_back_to_the_one_before(begun: list[Chatting]) -> None:
    first, second = begun
    before = first.reply(words(0, 60))
    ids = first.reply([*before, *words(1, 60)])
    first.keeper.close()
    branch = [*ids[:100], *words(7, 10)]
    assert second.keeper.restore("chat", branch).n == len(before) - 1  # type: ignore[union-attr]
