"""Continuous batching: every request gets what it would get alone, within the stated memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.backends.base import Cache, Model
from llama_core.backends.jit import jit_available, load_jit_model
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from llama_core.engine.batch.request import BatchRequest, BatchResult, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.engine import Engine
from llama_core.errors import ContextFullError, LlamaCoreError, NotEnoughMemoryError, NumericalError
from llama_core.events import Finished
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint
from llama_core.sampling.params import SamplingParams

CONFIG = ModelConfig(
    dim=64,
    hidden_dim=128,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    vocab_size=320,
    max_seq_len=192,
)
STOP = frozenset({7})
MIB = 1 << 20


@pytest.fixture(scope="module")
def model() -> Iterator[Llama]:
    made = Llama(CONFIG, random_weights(CONFIG, seed=3))
    yield made
    made.close()


class OneByOne:
    """The same model without `forward_batch`, as a backend that lacks it."""

    def __init__(self, model: Llama) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        if name == "forward_batch":
            raise AttributeError(name)
        return getattr(self._model, name)


class Watched:
    """Passes everything on and lets a test look at, or spoil, each pass."""

    def __init__(self, model: Llama, look: Callable[[Sequence[tuple[Any, Cache]], Any], None]) -> None:
        self._model, self._look = model, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward_batch(self, sequences: Sequence[tuple[Any, Cache]], *, cancelled: Any = None) -> Any:
        logits = self._model.forward_batch(sequences, cancelled=cancelled)
        self._look(sequences, logits)
        return logits


def requests(n: int, seed: int = 5) -> list[BatchRequest]:
    """Prompts of 1 to 90 tokens, replies of up to 40, greedy and sampled in turn."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        prompt = tuple(int(t) for t in rng.integers(8, CONFIG.vocab_size, rng.integers(1, 90)))
        params = SamplingParams(
            temperature=0.0 if i % 2 else 0.9,
            top_k=30,
            repeat_penalty=1.1 if i % 3 == 0 else 1.0,
            seed=100 + i,
            max_tokens=int(rng.integers(1, 40)) if i % 5 else None,
        )
        made.append(BatchRequest(f"r{i}", prompt, params, STOP))
    return made


def alone(model: Model, request: BatchRequest, ctx_size: int | None = None) -> tuple[str, tuple[int, ...]]:
    events = Engine(model, ctx_size).generate(request.prompt_ids, request.params, stop_ids=request.stop_ids)
    *_, last = events
    assert isinstance(last, Finished)
    return last.reason, last.ids


def outcome(result: BatchResult) -> tuple[str, tuple[int, ...]]:
    return result.reason, result.ids


@pytest.mark.parametrize("wrap", [lambda model: model, OneByOne], ids=["one pass", "one by one"])
def test_each_request_gets_what_it_gets_alone(model: Llama, wrap: Callable[[Llama], Any]) -> None:
    asked = requests(24)
    batch = BatchEngine(wrap(model), kv_budget_bytes=64 * MIB, max_sequences=7, token_budget=48)
    results = {result.key: result for result in batch.run(asked)}
    assert sorted(results) == sorted(request.key for request in asked)
    for request in asked:
        assert outcome(results[request.key]) == alone(model, request), request.key
    reasons = {result.reason for result in results.values()}
    assert {"length", "context"} <= reasons
    assert batch.kv_bytes == 0


def test_penalties_of_the_reply_are_those_that_it_gets_alone(model: Llama) -> None:
    greedy = SamplingParams(temperature=0.0, max_tokens=12)
    params = replace(greedy, presence_penalty=2.0, frequency_penalty=1.0)
    prompt = tuple(range(1, CONFIG.vocab_size))  # every token but one: none is held against the reply
    prompt = prompt[-(CONFIG.max_seq_len - 20) :]
    request = BatchRequest("a", prompt, params)
    (result,) = BatchEngine(model, kv_budget_bytes=64 * MIB).run([request])
    assert outcome(result) == alone(model, request)
    (plain,) = BatchEngine(model, kv_budget_bytes=64 * MIB).run([replace(request, params=greedy)])
    assert plain.ids[0] == result.ids[0]
    assert len(set(result.ids)) > len(set(plain.ids)) or plain.ids == result.ids


def test_on_the_compiled_backend_the_logits_are_the_same_bits(kernel_cache: Path) -> None:
    reason = jit_available()
    if reason is not None:
        pytest.skip(reason)
    model = load_jit_model(
        random_checkpoint(CONFIG, NoTokenizer(), seed=3), threads=2, kernel_cache=kernel_cache
    )
    try:
        single: dict[tuple[int, ...], bytes] = {}
        for request in requests(12):
            cache = model.new_cache(len(request.prompt_ids))
            for start in range(0, len(request.prompt_ids), model.prefill_chunk):
                chunk = np.array(request.prompt_ids[start : start + model.prefill_chunk], np.int32)
                logits = model.forward(chunk, cache)
            single[request.prompt_ids] = logits.tobytes()
        compared = 0
        read: dict[int, tuple[int, ...]] = {}  # what each cache holds

        def look(sequences: Sequence[tuple[Any, Cache]], logits: Any) -> None:
            nonlocal compared
            for (ids, cache), row in zip(sequences, logits, strict=True):
                before = read.get(id(cache), ()) if cache.length > len(ids) else ()
                read[id(cache)] = (*before, *(int(token) for token in ids))
                if read[id(cache)] in single:
                    assert row.tobytes() == single[read[id(cache)]]
                    compared += 1

        batch = BatchEngine(Watched(model, look), kv_budget_bytes=64 * MIB, max_sequences=16, token_budget=24)
        one = SamplingParams(temperature=0.0, max_tokens=1)
        list(batch.run(BatchRequest(str(i), ids, one) for i, ids in enumerate(single)))
        assert compared == len(single) == 12

        asked = requests(10, seed=8)
        batch = BatchEngine(model, kv_budget_bytes=64 * MIB, max_sequences=5, token_budget=32)
        results = {result.key: result for result in batch.run(asked)}
        for request in asked:
            assert outcome(results[request.key]) == alone(model, request), request.key
    finally:
        model.close()


def test_stop_tokens_end_a_reply_and_ignore_eos_goes_on(model: Llama) -> None:
    request = requests(1)[0]
    greedy = SamplingParams(temperature=0.0, max_tokens=12)
    _, ids = alone(model, BatchRequest("a", request.prompt_ids, greedy))
    at = next(i for i in range(3, 12) if ids[i] not in ids[:i])
    stop = frozenset({ids[at]})
    on = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    batch = BatchEngine(model, kv_budget_bytes=MIB)
    first, second = (
        BatchRequest("s", request.prompt_ids, greedy, stop),
        BatchRequest("i", request.prompt_ids, on, stop),
    )
    results = {result.key: outcome(result) for result in batch.run([first, second])}
    assert results == {"s": ("stop", ids[:at]), "i": ("length", ids)}


def test_a_caller_ends_a_reply_by_what_it_reads(model: Llama) -> None:
    seen: list[int] = []

    def on_token(token: DrawnToken) -> bool:
        assert [pair[1] for pair in token.top] == sorted((pair[1] for pair in token.top), reverse=True)
        assert token.top[0] == (token.id, token.logprob)  # greedy
        assert len(token.top) == 3
        seen.append(token.id)
        return len(seen) == 4

    params = SamplingParams(temperature=0.0, max_tokens=30)
    request = BatchRequest("a", (9, 10), params, on_token=on_token, top_n=3)
    (result,) = BatchEngine(model, kv_budget_bytes=MIB).run([request])
    assert result.reason == "stop"
    assert list(result.ids) == seen
    assert len(seen) == 4


def test_memory_stays_within_the_budget_and_the_rest_waits(model: Llama) -> None:
    one = model.new_cache(192).nbytes
    budget = int(2.5 * one)
    batch = BatchEngine(model, kv_budget_bytes=budget, max_sequences=16)
    params = SamplingParams(temperature=0.0)
    for i in range(9):
        batch.submit(BatchRequest(str(i), (20 + i, 30), params))
    order: list[str] = []
    peak = most = 0
    while batch.waiting_n or batch.running_n:
        order += [result.key for result in batch.step()]
        peak, most = max(peak, batch.kv_bytes), max(most, batch.running_n)
        assert batch.kv_bytes <= budget
    assert peak == 2 * one
    assert most == 2
    assert sorted(order) == [str(i) for i in range(9)]


def test_a_step_holds_to_its_token_budget_and_decoding_comes_first(model: Llama) -> None:
    passes: list[list[int]] = []
    watched = Watched(model, lambda sequences, logits: passes.append([len(ids) for ids, _ in sequences]))
    batch = BatchEngine(watched, kv_budget_bytes=64 * MIB, token_budget=32, max_sequences=8)
    params = SamplingParams(temperature=0.0, max_tokens=50)
    batch.submit(BatchRequest("first", (9, 10, 11), params))
    batch.step()
    batch.submit(BatchRequest("long", tuple(range(20, 100)), params))
    for _ in range(4):
        batch.step()
    assert passes == [[3], [1, 31], [1, 31], [1, 18], [1, 1]]


def test_requests_join_and_leave_between_steps(model: Llama) -> None:
    widths: list[int] = []
    watched = Watched(model, lambda sequences, logits: widths.append(len(sequences)))
    batch = BatchEngine(watched, kv_budget_bytes=64 * MIB)

    def arrive() -> Iterator[BatchRequest]:
        for i in range(5):
            yield BatchRequest(str(i), (50 + i,), SamplingParams(temperature=0.0, max_tokens=3 + 2 * i))

    results = list(batch.run(arrive()))
    assert [result.key for result in results] == ["0", "1", "2", "3", "4"]
    assert widths == [5, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1]


def test_what_cannot_run_fails_alone(model: Llama) -> None:
    good = SamplingParams(temperature=0.0, max_tokens=4)
    asked = [
        BatchRequest("empty", (), good),
        BatchRequest("id", (9999,), good),
        BatchRequest("long", tuple([9] * 192), good),
        BatchRequest("fine", (9, 10), good),
        BatchRequest("big", (9,), SamplingParams(temperature=0.0)),
        BatchRequest("none", (9,), SamplingParams(max_tokens=0)),
    ]
    budget = model.new_cache(64).nbytes
    results = {result.key: result for result in BatchEngine(model, kv_budget_bytes=budget).run(asked)}
    assert {key: result.reason for key, result in results.items()} == {
        "empty": "failed",
        "id": "failed",
        "long": "failed",
        "fine": "length",
        "big": "failed",
        "none": "length",
    }
    assert isinstance(results["long"].error, ContextFullError)
    assert isinstance(results["big"].error, NotEnoughMemoryError)
    assert isinstance(results["empty"].error, LlamaCoreError)
    assert outcome(results["fine"]) == alone(model, asked[3])
    assert results["none"].ids == ()


def test_nan_in_one_sequence_fails_that_one(model: Llama) -> None:
    asked = requests(6)
    victim = asked[3]

    def spoil(sequences: Sequence[tuple[Any, Cache]], logits: Any) -> None:
        for (ids, cache), row in zip(sequences, logits, strict=True):
            if cache.length >= len(victim.prompt_ids) and tuple(ids) == victim.prompt_ids:
                row[5] = np.nan

    batch = BatchEngine(Watched(model, spoil), kv_budget_bytes=64 * MIB, token_budget=256)
    results = {result.key: result for result in batch.run(asked)}
    assert results[victim.key].reason == "failed"
    assert isinstance(results[victim.key].error, NumericalError)
    for request in asked:
        if request is not victim:
            assert outcome(results[request.key]) == alone(model, request)


@pytest.mark.parametrize("wrap", [lambda model: model, OneByOne], ids=["one pass", "one by one"])
def test_a_cancelled_step_changes_nothing(model: Llama, wrap: Callable[[Llama], Any]) -> None:
    asked = requests(8)
    batch = BatchEngine(wrap(model), kv_budget_bytes=64 * MIB, token_budget=64)
    polls = 0

    def cancelled() -> bool:
        nonlocal polls
        polls += 1
        return polls % 23 == 0

    results: dict[str, BatchResult] = {}
    rounds = 0
    source = iter(asked)
    while len(results) < len(asked):
        results |= {result.key: result for result in batch.run(source, cancelled)}
        rounds += 1
        assert rounds < 10_000
    assert rounds > 3
    for request in asked:
        assert outcome(results[request.key]) == alone(model, request)


def test_without_a_seed_each_request_draws_its_own(model: Llama) -> None:
    params = SamplingParams(temperature=2.0, top_k=0, top_p=1.0, max_tokens=20)
    results = list(
        BatchEngine(model, kv_budget_bytes=MIB * 8).run(BatchRequest(str(i), (9,), params) for i in range(2))
    )
    assert results[0].ids != results[1].ids
    again = SamplingParams(temperature=2.0, top_k=0, top_p=1.0, max_tokens=20, seed=results[0].seed)
    assert alone(model, BatchRequest("", (9,), again))[1] == results[0].ids


def test_a_known_prefix_is_not_computed_again(model: Llama) -> None:
    asked = requests(6, seed=2)
    shared = tuple(range(20, 60))
    longer = [replace(request, prompt_ids=(*shared, *request.prompt_ids[:30])) for request in asked]
    batch = BatchEngine(model, kv_budget_bytes=64 * MIB, max_sequences=2)
    results = {result.key: result for result in batch.run(longer)}
    for request in longer:
        assert outcome(results[request.key]) == alone(model, request), request.key
    # Of the first two, which join together, none can know the other's prompt.
    cached = [results[request.key].cached_n for request in longer]
    assert cached[:2] == [0, 0]
    assert all(n >= len(shared) for n in cached[2:])
    assert batch.tokens_reused == sum(cached)


def test_a_running_request_lends_its_prefix(model: Llama) -> None:
    batch = BatchEngine(model, kv_budget_bytes=64 * MIB)
    params = SamplingParams(temperature=0.0, max_tokens=20)
    batch.submit(BatchRequest("first", tuple(range(9, 49)), params))
    for _ in range(3):
        assert batch.step() == []
    batch.submit(BatchRequest("second", (*range(9, 49), 60), params))
    batch.step()
    assert batch.tokens_reused == 40
    done = {result.key: result for result in batch.run([])}
    assert outcome(done["second"]) == alone(model, BatchRequest("x", (*range(9, 49), 60), params))


def test_prefixes_make_room_for_requests_and_the_oldest_goes_first(model: Llama) -> None:
    budget = 3 * model.new_cache(64).nbytes
    batch = BatchEngine(model, kv_budget_bytes=budget)
    params = SamplingParams(temperature=0.0, max_tokens=2)
    prompts = [tuple(range(start, start + 20)) for start in (10, 40, 70, 100, 130)]

    def within() -> None:
        assert batch.kv_bytes + batch.prefixes.nbytes <= budget

    for i, prompt in enumerate(prompts):
        list(batch.run([BatchRequest(str(i), prompt, params)], on_step=within))
    kept = [prefix.ids[0] for prefix in batch.prefixes]
    assert kept == [70, 100, 130]
    list(batch.run([BatchRequest("again", (*prompts[2], 9), params)]))
    assert [prefix.ids[0] for prefix in batch.prefixes][-1] == 70


def test_a_damaged_sequence_lends_nothing(model: Llama) -> None:
    def spoil(sequences: Sequence[tuple[Any, Cache]], logits: Any) -> None:
        logits[:] = np.nan

    batch = BatchEngine(Watched(model, spoil), kv_budget_bytes=MIB)
    (result,) = batch.run([BatchRequest("a", (9, 10, 11), SamplingParams(max_tokens=4))])
    assert result.reason == "failed"
    assert len(batch.prefixes) == 0


def test_a_request_is_cancelled_while_it_waits_and_while_it_runs(model: Llama) -> None:
    batch = BatchEngine(model, kv_budget_bytes=64 * MIB, max_sequences=1)
    params = SamplingParams(temperature=0.0, max_tokens=50)
    for key in ("runs", "waits", "stays"):
        batch.submit(BatchRequest(key, (9, 10, 11), params))
    batch.step()
    waiting, running = batch.cancel("waits"), batch.cancel("runs")
    assert waiting is not None
    assert running is not None
    assert (waiting.reason, waiting.ids) == ("cancelled", ())
    assert running.reason == "cancelled"
    assert len(running.ids) == 1
    assert batch.cancel("runs") is None
    assert batch.kv_bytes == 0
    assert [result.key for result in batch.run([])] == ["stays"]


def test_a_long_prompt_leaves_others_their_tokens(model: Llama) -> None:
    """With a clock by which each token of a pass takes 10 ms, a bound of 100 ms is 10 tokens a pass."""
    computed = [0]
    sizes: list[int] = []

    def look(sequences: Sequence[tuple[Any, Cache]], logits: Any) -> None:
        n = sum(len(ids) for ids, _ in sequences)
        computed[0] += n
        sizes.append(n)

    batch = BatchEngine(
        Watched(model, look), kv_budget_bytes=64 * MIB, max_step_s=0.1, clock=lambda: computed[0] / 100
    )
    params = SamplingParams(temperature=0.0, max_tokens=40)
    batch.submit(BatchRequest("talks", tuple(range(9, 49)), params))
    batch.step()
    batch.submit(BatchRequest("long", tuple(range(50, 150)), SamplingParams(temperature=0.0, max_tokens=2)))
    results = {result.key: result for result in batch.run([])}
    assert {result.reason for result in results.values()} == {"length"}
    assert max(sizes[1:]) <= 10
    assert sizes[1] == 10
