"""The engine with scripted models: what is computed, what is told, how a reply ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.engine.clock import EngineClock
from llama_core.engine.engine import Engine
from llama_core.engine.reply import decoding
from llama_core.errors import ContextFullError
from llama_core.events import Finished, PrefillProgress, TokenEvent
from llama_core.sampling.params import SamplingParams

EOS = 257
GREEDY = SamplingParams(temperature=0.0)
PROMPT = [*b"a question of some length", 0]


def tokens(events: list[Any]) -> bytes:
    return bytes(event.id for event in events if isinstance(event, TokenEvent))


def test_a_reply_is_prefill_tokens_and_finished(saying: Callable[..., Any]) -> None:
    model = saying("hello")
    engine = Engine(model)
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    prefill = [e for e in events if isinstance(e, PrefillProgress)]
    assert [e.done_n for e in prefill] == [0, 8, 16, 24, 26]
    assert {(e.cached_n, e.total_n) for e in prefill} == {(0, 26)}
    assert tokens(events) == b"hello"
    assert [e.index for e in events if isinstance(e, TokenEvent)] == [0, 1, 2, 3, 4]
    assert [e.context_n for e in events if isinstance(e, TokenEvent)] == [27, 28, 29, 30, 31]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"
    assert bytes(finished.ids) == b"hello", "without the end token"
    assert finished.timings.prompt_n == 26
    assert finished.timings.predicted_n == 5
    assert finished.timings.ttft_s >= finished.timings.prompt_s > 0
    assert engine.cached_ids == (*PROMPT, *b"hello")
    assert model.passes[4:] == [[c] for c in b"hello"], "decoding is one token a pass"


def test_the_common_prefix_is_not_computed_again(saying: Callable[..., Any]) -> None:
    model = saying("yes")
    engine = Engine(model)
    first = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    model.passes.clear()
    longer = [*PROMPT, *b"yes, and", 0]
    events = list(engine.generate(longer, GREEDY, stop_ids=frozenset({EOS})))
    assert events[0] == PrefillProgress(cached_n=29, done_n=0, total_n=6, prefill_s=0.0)
    assert model.passes[0] == [*b", and", 0]
    assert events[-1].timings.cache_n == 29
    assert events[-1].timings.prompt_n == 6
    assert tokens(events) == tokens(first) == b"yes"


def test_the_same_prompt_again_computes_its_last_token_only(saying: Callable[..., Any]) -> None:
    model = saying("yes")
    engine = Engine(model)
    first = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    model.passes.clear()
    again = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    assert model.passes[0] == [0]
    assert tokens(again) == tokens(first)


def test_reset_forgets_everything(saying: Callable[..., Any]) -> None:
    engine = Engine(saying("yes"))
    list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    assert engine.memory().kv_used_bytes > 0
    engine.reset()
    assert engine.cached_ids == ()
    assert engine.memory().kv_used_bytes == 0
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    assert events[0].cached_n == 0


@pytest.mark.parametrize("max_tokens", [0, 1, 3])
def test_max_tokens(saying: Callable[..., Any], max_tokens: int) -> None:
    model = saying("hello")
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    events = list(Engine(model).generate(PROMPT, params, stop_ids=frozenset({EOS})))
    assert events[-1].reason == "length"
    assert tokens(events) == b"hello"[:max_tokens]
    assert len(model.passes) == 4 + max(0, max_tokens - 1), "the last token is not computed"


def test_the_end_of_the_context_is_a_reason_not_an_error(saying: Callable[..., Any]) -> None:
    engine = Engine(saying("a very long reply"), ctx_size=30)
    assert engine.ctx_size == 30
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    assert events[-1].reason == "context"
    assert tokens(events) == b"a ve"
    assert events[-2].context_n == 30


def test_a_prompt_that_does_not_fit_is_refused_before_any_work(saying: Callable[..., Any]) -> None:
    model = saying("x")
    engine = Engine(model, ctx_size=26)
    with pytest.raises(ContextFullError, match="27 tokens are needed but the context holds 26"):
        engine.generate(PROMPT, GREEDY)
    with pytest.raises(ValueError, match="empty"):
        engine.generate([], GREEDY)
    with pytest.raises(ValueError, match="0 to 259"):
        engine.generate([5, 260], GREEDY)
    assert model.passes == []


def test_the_context_is_never_larger_than_what_the_model_was_trained_for(saying: Callable[..., Any]) -> None:
    assert Engine(saying("x", max_seq_len=100)).ctx_size == 100
    assert Engine(saying("x", max_seq_len=100), ctx_size=1000).ctx_size == 100
    assert Engine(saying("x", max_seq_len=10_000)).ctx_size == 4096
    with pytest.raises(ValueError, match="ctx_size is 0"):
        Engine(saying("x"), ctx_size=0)


def test_ignore_eos_goes_on(saying: Callable[..., Any]) -> None:
    params = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=4)
    events = list(Engine(saying("hi")).generate(PROMPT, params, stop_ids=frozenset({EOS})))
    assert list(events[-1].ids) == [*b"hi", EOS, EOS]


def test_the_caller_can_end_a_reply_after_any_token(saying: Callable[..., Any]) -> None:
    seen: list[int] = []
    engine = Engine(saying("hello"))
    events = []
    for event in engine.generate(PROMPT, GREEDY, stop_when=lambda: len(seen) == 2):
        events.append(event)
        if isinstance(event, TokenEvent):
            seen.append(event.id)
    assert events[-1].reason == "stop"
    assert bytes(events[-1].ids) == b"he"


def test_one_seed_one_reply_and_finished_tells_the_seed(scripted: Callable[..., Any]) -> None:
    flat = np.zeros(260, np.float32)
    engine = Engine(scripted(lambda ids: flat))
    params = SamplingParams(top_k=0, top_p=1.0, max_tokens=30)
    first = list(engine.generate(PROMPT, params))[-1]
    second = list(engine.generate(PROMPT, params))[-1]
    assert first.ids != second.ids
    given = SamplingParams(top_k=0, top_p=1.0, max_tokens=30, seed=first.seed)
    assert list(engine.generate(PROMPT, given))[-1].ids == first.ids


def test_alternatives_come_when_asked_for(saying: Callable[..., Any]) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=1)
    event = list(Engine(saying("h")).generate(PROMPT, params, top_n=3))[-2]
    assert len(event.top) == 3
    assert event.top[0] == (event.id, event.logprob)


def test_the_clock_stands_still_while_the_consumer_runs(
    saying: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that passes and the consumer alone move on."""
    now = [0.0]

    def passes(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(decoding, "EngineClock", lambda: EngineClock(lambda: now[0]))
    model = saying("hello", before=lambda n: passes(1.0))
    events = []
    for event in Engine(model).generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})):
        passes(1000.0)
        events.append(event)
    timings = events[-1].timings
    # Four passes of the prompt, and one for each token but the first; the one behind the last ends it.
    assert (timings.ttft_s, timings.predicted_s) == (4.0, 4.0)
    assert sum(e.step_s for e in events if isinstance(e, TokenEvent)) == 4.0


def test_the_clock_itself() -> None:
    now = [0.0]
    clock = EngineClock(lambda: now[0])
    now[0] = 2.0
    assert clock.elapsed_s() == 2.0
    clock.pause()
    clock.pause()
    now[0] = 50.0
    assert clock.elapsed_s() == 2.0
    clock.resume()
    clock.resume()
    now[0] = 51.0
    assert clock.elapsed_s() == 3.0


def test_prompt_logits_are_the_callers_own(scripted: Callable[..., Any]) -> None:
    engine = Engine(scripted(lambda ids: np.full(260, len(ids), np.float32)))
    logits = engine.prompt_logits(PROMPT)
    assert logits.dtype == np.float32
    assert set(logits) == {26.0}
    engine.prompt_logits([*PROMPT, 1])
    assert set(logits) == {26.0}
    assert Engine(engine.model, ctx_size=26).prompt_logits(PROMPT)[0] == 26.0, "no room for a reply needed"


def test_perplexity_is_the_mean_over_all_tokens_but_the_first(scripted: Callable[..., Any]) -> None:
    def script(ids: Any) -> np.ndarray:
        row = np.zeros(260, np.float32)
        row[(ids[-1] + 1) % 260] = np.log(260.0)  # the next number: 260 times as likely as another
        return row

    engine = Engine(scripted(script))
    list(engine.generate(PROMPT, SamplingParams(max_tokens=3)))
    likely, unlikely = np.log((260 + 259) / 260), np.log(260 + 259)
    assert engine.perplexity(range(100)) == pytest.approx(likely, abs=1e-5)
    assert engine.perplexity([1, 2, 3, 9]) == pytest.approx((2 * likely + unlikely) / 3, abs=1e-5)
    assert engine.cached_ids == ()
    with pytest.raises(ValueError, match="two tokens or more"):
        engine.perplexity([1])


def test_the_memory_report_adds_up(make_toy: Callable[..., Any]) -> None:
    toy = make_toy()
    engine = Engine(toy.model, ctx_size=128)
    list(engine.generate(list(range(64)), SamplingParams(max_tokens=1)))
    report = engine.memory()
    assert report.weights_bytes == toy.weights.nbytes
    assert report.kv_bytes == 2 * 3 * 2 * 128 * 8 * 4
    assert report.kv_used_bytes == report.kv_bytes // 2
    assert report.scratch_bytes == toy.model.scratch_bytes
    assert report.resident_bytes > report.weights_bytes + report.kv_used_bytes + report.scratch_bytes


@pytest.mark.parametrize("split", [1, 7, 40, 79])
def test_reuse_gives_what_a_fresh_engine_gives(make_toy: Callable[..., Any], split: int) -> None:
    """With a real model: part of the prompt from the cache, the rest in whatever chunks."""
    ids = np.random.default_rng(2).integers(0, 64, 80).tolist()
    params = SamplingParams(temperature=0.0, max_tokens=40)
    used, fresh = Engine(make_toy().model), Engine(make_toy().model)
    list(used.generate([*ids[:split], 1, 2, 3], params))
    events = list(used.generate(ids, params))
    assert events[0].cached_n >= split - 1
    assert events[-1].ids == list(fresh.generate(ids, params))[-1].ids


def test_penalties_of_the_reply_pass_over_the_prompt(scripted: Callable[..., Any]) -> None:
    row = np.zeros(260, np.float32)
    row[[7, 9]] = 1.5, 1.0
    params = SamplingParams(temperature=0.0, presence_penalty=2.0, max_tokens=3)
    *_, finished = Engine(scripted(lambda ids: row)).generate([7, 7], params)
    assert isinstance(finished, Finished)
    assert finished.ids == (7, 9, 0)
