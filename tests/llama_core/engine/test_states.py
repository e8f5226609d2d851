"""Models whose layers have a state: a chat computes what is new and no more, and the bits are those of a
fresh computation, whatever was asked for in between."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.backends import states
from llama_core.backends.base import Cache
from llama_core.backends.jit import load_jit_model
from llama_core.backends.numpy import model as numpy_model
from llama_core.backends.numpy.kv_cache import KVCache
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from llama_core.engine import context
from llama_core.engine.batch.request import BatchRequest
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.drafting.prompt_lookup import PromptLookup
from llama_core.engine.engine import Engine
from llama_core.engine.passes import LEAST_GAP, message_ends, passes
from llama_core.errors import Cancelled
from llama_core.events import Finished
from llama_core.sampling.params import SamplingParams
from tests.llama_core.backends.jit.conftest import make_checkpoint
from tests.llama_core.engine.conftest import ScriptedCache, ScriptedModel
from tests.support.luck import SEED
from tests.support.tiny_shapes import SHAPE, STATES

END, VOCAB = 1, SHAPE["vocab_size"]
STOP = frozenset({END})
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen35": {"qk_norm": True},
    "lfm2": {"qk_norm": True},
    "granitehybrid": {"rope_layers": (False,) * 4},
}


# What the compiled backend can take.
WIDE = {"dim": 32, "head_dim": 16, "state_head_dim": 16, "state_dim": 16}


@pytest.fixture(params=[*FAMILIES, *(f"compiled {family}" for family in FAMILIES)])
def model(request: pytest.FixtureRequest, kernel_cache: Path) -> Iterator[Any]:
    compiled, _, family = request.param.rpartition(" ")
    shape = {**SHAPE, **STATES, **FAMILIES[family], "architecture": family}
    made: Any
    if compiled:
        made = load_jit_model(
            make_checkpoint("F32", 2, **{**shape, **WIDE}), threads=1, kernel_cache=kernel_cache
        )
    else:
        config = ModelConfig(**shape)
        made = Llama(config, random_weights(config, 2), threads=1)
    yield made
    made.close()


def one_pass(model: Any, prompt: Sequence[int]) -> np.ndarray:
    """The logits behind a prompt that nothing came before; with NumPy in one pass."""
    if model.backend.startswith("jit"):
        cache = model.new_cache(1024)
        for start, stop in passes(0, len(prompt), model.prefill_chunk):
            rows = model.forward(np.array(prompt[start:stop], np.int32), cache)
        return rows.copy()
    at_once = Llama(model.config, model.weights, threads=1)
    return at_once.forward(np.array(prompt, np.int32), at_once.new_cache(1024)).copy()


class Recorded:
    """A model, with the passes that led to what its one cache holds now: (start, ids)."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.path: list[tuple[int, list[int]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, ids: np.ndarray, cache: Cache, **how: Any) -> np.ndarray:
        start = cache.length
        self.path = [step for step in self.path if step[0] < start]
        assert start == sum(len(step[1]) for step in self.path), "a state lies at the end of a pass"
        rows = self._model.forward(ids, cache, **how)
        self.path.append((start, ids.tolist()))
        return rows

    def again(self) -> np.ndarray:
        """The logits of the same passes in a fresh cache."""
        fresh = self._model.new_cache(1024)
        for _, ids in self.path:
            rows = self._model.forward(np.array(ids, np.int32), fresh)
        return rows.copy()


def words(seed: int, n: int) -> list[int]:
    """A message of n tokens and its end."""
    return [*np.random.default_rng(seed).integers(2, VOCAB, n).tolist(), END]


def reply(engine: Engine, prompt: Sequence[int], n: int = 20, seed: int = 0) -> tuple[list[int], int]:
    """The ids of a reply, and how many tokens of the prompt were computed for it."""
    params = SamplingParams(temperature=1.0, max_tokens=n, seed=seed, ignore_eos=True)
    *_, last = engine.generate(prompt, params, stop_ids=STOP)
    assert isinstance(last, Finished)
    assert last.timings.cache_n + last.timings.prompt_n == len(prompt)
    return list(last.ids), last.timings.prompt_n


def test_a_conversation_computes_what_is_new_and_no_more(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: Any = Recorded(model)
    engine = Engine(recorded, 1024)
    monkeypatch.setattr(numpy_model, "PREFILL_CHUNK", 1024)
    exact = model.backend.startswith("jit")

    def check(prompt: Sequence[int]) -> None:
        """What the model answers is what it would answer had nothing else been asked before: bit for bit
        where the passes are the same, since NumPy's products of other sizes are rounded otherwise."""
        logits = engine.prompt_logits(prompt)
        np.testing.assert_array_equal(logits, recorded.again())
        np.testing.assert_allclose(logits, one_pass(model, prompt), rtol=0, atol=0 if exact else 1e-4)

    turns = [words(100, 30)]  # a system prompt, then messages of users and replies by turns
    for turn in range(5):
        turns.append(words(turn, 40 + turn))
        prompt = list(chain(*turns))
        text, computed = reply(engine, prompt, seed=turn)
        held = sum(map(len, turns[:-1])) - 2 if turn else 0  # a reply's last token and its end are new
        assert computed == len(prompt) - held
        turns.append([*text, END])
    check(prompt)
    whole = len(prompt)
    assert whole > 300

    # Another reply, twice: from behind the last message.
    for seed in (7, 8):
        _, computed = reply(engine, prompt, seed=seed)
        assert computed <= LEAST_GAP
        check(prompt)
    # Another third message: from behind the second reply.
    branch = [*turns[:5], words(50, 33)]
    prompt = list(chain(*branch))
    _, computed = reply(engine, prompt)
    assert computed <= len(branch[-1]) + 2 * LEAST_GAP
    check(prompt)
    # A reply goes on from where it was stopped: nothing is computed but its last token.
    text, _ = reply(engine, prompt, 3)
    more, computed = reply(engine, prompt + text, 5)
    assert computed == 1
    check(prompt + text + more)


def test_without_snapshots_all_would_be_read_again(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states.States, "snapshot", lambda self, length: None)
    engine = Engine(model, 1024)
    prompt = words(1, 60) + words(2, 60)
    first, _ = reply(engine, prompt)
    again, computed = reply(engine, prompt)
    assert again == first
    assert computed == len(prompt)


def test_a_long_message_is_remembered_on_the_way(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SNAPSHOT_EVERY", 100)
    passes_of = "_max_tokens" if model.backend.startswith("jit") else "_max_rows"
    monkeypatch.setattr(model, passes_of, 40)  # passes as short as this test is long
    engine = Engine(model, 1024)
    prompt = words(1, 500)
    reply(engine, prompt)
    _, computed = reply(engine, [*prompt[:330], *words(3, 20)])
    assert computed <= 21 + 100 + 40


def test_a_pass_that_is_cancelled_leaves_the_state(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if model.backend.startswith("jit"):  # which else takes all layers of so small a model at once
        monkeypatch.setattr(model, "_phases_per_call", lambda n, n_phases: 1)
    ids = np.array(words(4, 90), np.int32)
    cache = model.new_cache(256)
    model.forward(ids[:50], cache)
    asked = iter(range(100))
    with pytest.raises(Cancelled):
        model.forward(ids[50:80], cache, cancelled=lambda: next(asked) == 3)
    assert cache.length == 50
    fresh = model.new_cache(256)
    model.forward(ids[:50], fresh)
    np.testing.assert_array_equal(model.forward(ids[50:], cache).copy(), model.forward(ids[50:], fresh))


def test_a_copied_prefix_ends_where_the_source_remembers(model: Any) -> None:
    ids = np.array(words(5, 90), np.int32)
    source = model.new_cache(256)
    for start, stop in ((0, 40), (40, 70)):
        model.forward(ids[start:stop], source)
        source.snapshot()
    model.forward(ids[70:80], source)
    for wanted, reached in ((80, 80), (79, 70), (70, 70), (69, 40), (39, 0)):
        copy = model.new_cache(128)
        copy.copy_prefix(source, wanted)
        assert (source.reachable(wanted), copy.length) == (reached, reached)
        got = model.forward(ids[reached:], copy).copy()
        fresh = model.new_cache(128)
        for start, stop in ((0, 40), (40, 70), (70, 80)):
            if stop <= reached:
                model.forward(ids[start:stop], fresh)
        np.testing.assert_array_equal(got, model.forward(ids[reached:], fresh))
    with pytest.raises(ValueError, match="cannot copy 81 of 80"):
        model.new_cache(128).copy_prefix(source, 81)


def test_snapshots_are_bounded_and_counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = model.new_cache(512)
    plain = cache.nbytes
    monkeypatch.setattr(states, "MOST", 5)
    for start in range(0, 300, 10):
        model.forward(np.array(words(6, 300)[start : start + 10], np.int32), cache)
        cache.snapshot()
        cache.snapshot()  # the same length again is none
    kept = cache.states.snapshot_lengths
    assert len(kept) == 5
    assert cache.nbytes == plain + 5 * cache.snapshot_bytes
    assert kept[-1] == 300
    assert max(b - a for a, b in zip((0, *kept), kept, strict=False)) < 150  # spread over the text
    monkeypatch.setattr(states, "available_bytes", lambda: 0)
    cache.truncate(0)
    model.forward(np.array([3], np.int32), cache)
    cache.snapshot()
    assert cache.states.snapshot_lengths == ()


def test_a_model_of_nothing_but_states_has_no_keys() -> None:
    config = ModelConfig(**{**SHAPE, **STATES, "recurrent_layers": (True,) * 4, "architecture": "lfm2"})
    model = Llama(config, random_weights(config, 1), threads=1)
    cache = model.new_cache(64)
    assert cache.keys.size == 0
    assert np.isfinite(model.forward(np.array([3, 4], np.int32), cache)).all()


def test_attention_alone_has_no_snapshots() -> None:
    config = ModelConfig(**{**SHAPE, **STATES, "recurrent_layers": ()})
    cache = Llama(config, random_weights(config, 1), threads=1).new_cache(64)
    assert type(cache) is KVCache
    cache.advance(9)
    before = cache.nbytes
    cache.snapshot()
    assert (cache.snapshot_bytes, cache.nbytes - before, cache.reachable(7), cache.state(9)) == (
        0,
        0,
        7,
        None,
    )


def test_a_batch_shares_what_it_can_go_back_to(model: Any) -> None:
    system = words(9, 60)
    prompts = [system + words(20 + i, 25) for i in range(6)]
    params = SamplingParams(temperature=0.0, max_tokens=6)
    alone = []
    for prompt in prompts:
        *_, last = Engine(model, 256).generate(prompt, params, stop_ids=STOP)
        alone.append(last.ids if isinstance(last, Finished) else None)
    batch = BatchEngine(model, kv_budget_bytes=64 << 20, max_sequences=2)
    requests = (BatchRequest(str(i), tuple(p), params, STOP) for i, p in enumerate(prompts))
    results = {result.key: result for result in batch.run(requests)}
    assert [results[str(i)].ids for i in range(6)] == alone
    # The first two begin together; the others find the system prompt.
    assert [results[str(i)].cached_n for i in range(2, 6)] == [len(system)] * 4
    assert batch.kv_bytes == 0
    (again,) = batch.run([BatchRequest("again", tuple(prompts[0]), params, STOP)])
    assert again.ids == alone[0]
    assert len(prompts[0]) - again.cached_n <= LEAST_GAP + 1


def test_ends_of_messages() -> None:
    ids = words(1, 30) + words(2, 3) + words(3, 40) + [5, 6, 7]
    ends = message_ends(ids, 0, STOP)
    assert ends == [31, 76]  # the second message is too short to count
    assert message_ends(ids, 70, STOP) == []
    assert message_ends(ids, 31, ()) == [len(ids) - 1]
    assert list(passes(10, 50, 16, (31, 40))) == [(10, 26), (26, 31), (31, 40), (40, 50)]
    assert list(passes(0, 5, 16)) == [(0, 5)]


class StatefulModel(ScriptedModel):
    """A scripted model whose cache goes back to its snapshots alone."""

    def new_cache(self, capacity: int) -> ScriptedCache:
        return ScriptedCache(capacity, snapshot_bytes=1)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_the_reply_is_that_of_a_model_that_steps_back(seed: int) -> None:
    """Prompts that share parts, stops, cancellations, resets, a drafter: the ids are the same."""
    luck = random.Random(100 * SEED + seed)

    def script(ids: Sequence[int]) -> np.ndarray:
        return np.random.default_rng(hash(tuple(ids[-40:])) % 2**32).standard_normal(260).astype(np.float32)

    def ids_of(engine: Engine, prompt: list[int], params: SamplingParams, polls: int) -> tuple[int, ...]:
        """A reply that is cancelled after so many questions."""
        asked = iter(range(10**6))
        *_, last = engine.generate(prompt, params, stop_ids=STOP, cancelled=lambda: next(asked) == polls)
        held: Any = engine._context
        assert held.ids == held.cache.ids
        assert isinstance(last, Finished)
        return last.ids

    kinds: Any = (StatefulModel, ScriptedModel)
    stateful, plain = (Engine(kind(script, prefill_chunk=32), 512) for kind in kinds)
    stateful.drafter = PromptLookup()
    prompt = words(seed, 20)
    for step in range(25):
        params = SamplingParams(temperature=0.7, max_tokens=luck.randrange(1, 30), seed=step)
        polls = luck.choice((9, 40, 10**6))
        one, other = (ids_of(engine, prompt, params, polls) for engine in (stateful, plain))
        shorter = min(len(one), len(other))  # where they are cancelled, the passes before differ
        assert one[:shorter] == other[:shorter]
        if luck.random() < 0.1:
            stateful.reset()
        cut = luck.randrange(1, len(prompt) + 1) if luck.random() < 0.4 or len(prompt) > 400 else len(prompt)
        prompt = [*prompt[:cut], *one, END, *words(luck.randrange(9), luck.randrange(1, 40))]
        prompt = prompt[:450]
