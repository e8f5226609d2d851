"""The beginning of a prompt, read before the prompt is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from llama_core.engine.engine import Engine
from llama_core.errors import ContextFullError
from llama_core.events import Finished, PrefillProgress
from llama_core.sampling.params import SamplingParams
from tests.support.tiny_shapes import SHAPE, STATES

GREEDY = SamplingParams(temperature=0.0, max_tokens=3)
FILE = [*b"a file of some length", 10]


def never() -> bool:
    return False


def computed(engine: Engine, ids: list[int]) -> int:
    """How many tokens of a prompt are computed."""
    *_, last = engine.generate(ids, GREEDY)
    assert isinstance(last, Finished)
    return last.timings.prompt_n


def test_what_was_read_ahead_is_not_computed_again(saying: Callable[..., Any]) -> None:
    model = saying("yes")
    engine = Engine(model)
    events = list(engine.read_ahead(FILE, cancelled=never))
    assert [(e.cached_n, e.done_n, e.total_n) for e in events] == [(0, n, 22) for n in (0, 8, 16, 22)]
    assert engine.cached_ids == tuple(FILE)
    assert computed(engine, [*FILE, *b"why?", 0]) == 5


def test_what_is_held_already_stays_with_all_that_stands_behind_it(saying: Callable[..., Any]) -> None:
    engine = Engine(saying("yes"))
    computed(engine, [*FILE, *b"why?", 0])
    before = engine.cached_ids
    assert list(engine.read_ahead(FILE, cancelled=never)) == []
    assert engine.cached_ids == before


def test_a_cut_keeps_the_passes_before_it(saying: Callable[..., Any]) -> None:
    model = saying("yes")
    engine = Engine(model)
    asked = iter([*[False] * 2 * model.config.n_layers, True])
    events = list(engine.read_ahead(FILE, cancelled=lambda: next(asked)))
    assert [e.done_n for e in events] == [0, 8, 16]
    assert engine.cached_ids == tuple(FILE[:16])
    assert computed(engine, FILE) == 6


def test_another_request_ends_it(saying: Callable[..., Any]) -> None:
    engine = Engine(saying("yes"))
    ahead = engine.read_ahead(FILE, cancelled=never)
    assert isinstance(next(ahead), PrefillProgress)
    next(ahead)
    assert computed(engine, [1, 2, 3]) == 3
    held = engine.cached_ids
    assert list(ahead) == []
    assert engine.cached_ids == held


def test_what_leaves_no_room_for_a_reply_is_refused(saying: Callable[..., Any]) -> None:
    engine = Engine(saying("yes"), ctx_size=len(FILE))
    with pytest.raises(ContextFullError):
        engine.read_ahead(FILE, cancelled=never)


@pytest.fixture
def with_states() -> Iterator[Llama]:
    config = ModelConfig(**{**SHAPE, **STATES, "architecture": "lfm2", "qk_norm": True})
    made = Llama(config, random_weights(config, 2), threads=1)
    yield made
    made.close()


def test_a_model_with_states_goes_on_from_where_it_stopped(with_states: Llama) -> None:
    ids = np.random.default_rng(3).integers(2, SHAPE["vocab_size"], 60).tolist()
    engine = Engine(with_states)
    list(engine.read_ahead(ids[:40], cancelled=never))
    for question in (ids[:50], [*ids[:40], 7, 8, 9]):  # the second goes back to what was read
        *_, last = engine.generate(question, SamplingParams(temperature=0.0, max_tokens=1))
        assert last.timings.prompt_n == len(question) - 40
