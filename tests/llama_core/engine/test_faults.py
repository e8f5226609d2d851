"""Whatever breaks, at any token or layer, the engine is consistent and usable at once (faults 16 to 18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy.decoder import PLAIN, Operations
from llama_core.backends.numpy.model import Llama
from llama_core.engine.engine import Engine
from llama_core.errors import NotEnoughMemoryError, NumericalError
from llama_core.events import Finished, PrefillProgress, TokenEvent
from llama_core.sampling.params import SamplingParams

EOS = 257
GREEDY = SamplingParams(temperature=0.0)
PROMPT = [*b"a question of some length", 0]
STOP = frozenset({EOS})


class BrokenError(Exception):
    pass


def check_sound(engine: Engine, expected: bytes = b"hello") -> None:
    """Ids and cache agree, and the next reply is what a fresh engine says."""
    assert engine.cached_ids == tuple(engine._context.cache.ids)
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=STOP))
    assert bytes(events[-1].ids) == expected
    assert events[-1].reason == "stop"


@pytest.mark.parametrize("error", [BrokenError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", range(9))
def test_an_exception_in_any_pass(saying: Callable[..., Any], error: type[BaseException], at: int) -> None:
    def fail(n: int) -> None:
        if n == at:
            raise error

    model = saying("hello", before=fail)
    engine = Engine(model)
    with pytest.raises(error):
        list(engine.generate(PROMPT, GREEDY, stop_ids=STOP))
    check_sound(engine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", range(26, 32))
def test_a_bad_number_in_any_answer(saying: Callable[..., Any], bad: float, at: int) -> None:
    model = saying("hello")
    sound = model.script

    def script(ids: Any) -> Any:
        row = np.zeros(260, np.float32)
        row[sound(ids)] = 20.0
        if len(ids) == at:
            row[77] = bad
        return row

    model.script = script
    engine = Engine(model)
    with pytest.raises(NumericalError):
        list(engine.generate(PROMPT, GREEDY, stop_ids=STOP))
    assert len(engine.cached_ids) < max(at, 1), "nothing doubtful is kept"
    model.script = sound
    check_sound(engine)


def test_positions_never_seen_to_be_finite_are_dropped_with_a_bad_answer(
    saying: Callable[..., Any],
) -> None:
    """A prompt in four chunks whose answer is NaN: any of the chunks may hold the cause."""
    model = saying("hello")
    engine = Engine(model)
    list(engine.generate(PROMPT[:10], SamplingParams(temperature=0.0, max_tokens=1)))
    sound, model.script = model.script, lambda ids: np.full(260, np.nan, np.float32)
    with pytest.raises(NumericalError):
        list(engine.generate(PROMPT, GREEDY))
    assert engine.cached_ids == tuple(PROMPT[:10])
    with pytest.raises(NumericalError):
        engine.prompt_logits(PROMPT)
    assert engine.cached_ids == tuple(PROMPT[:10])
    model.script = sound
    check_sound(engine)


@pytest.mark.parametrize("polls", range(40))
def test_cancelled_at_any_poll(saying: Callable[..., Any], polls: int) -> None:
    engine = Engine(saying("hello"))
    left = iter(range(polls))
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=STOP, cancelled=lambda: next(left, None) is None))
    finished = events[-1]
    assert isinstance(finished, Finished)
    said = bytes(e.id for e in events if isinstance(e, TokenEvent))
    assert bytes(finished.ids) == said
    assert finished.reason == ("cancelled" if said != b"hello" or polls < 30 else finished.reason)
    assert b"hello".startswith(said)
    done = [e.done_n for e in events if isinstance(e, PrefillProgress)]
    assert finished.timings.prompt_n == done[-1]
    assert len(engine.cached_ids) >= done[-1], "chunks that were finished are kept"
    check_sound(engine)


@pytest.mark.parametrize("taken", range(1, 11))
@pytest.mark.parametrize("how", ["close", "throw", "drop", "reset", "next reply"])
def test_a_reply_that_is_left_at_any_event(saying: Callable[..., Any], taken: int, how: str) -> None:
    engine = Engine(saying("hello"))
    reply = engine.generate(PROMPT, GREEDY, stop_ids=STOP)
    for _ in range(taken):
        next(reply)
    if how == "close":
        reply.close()
    elif how == "throw":
        with pytest.raises(BrokenError):
            reply.throw(BrokenError())
    elif how == "drop":
        del reply
    elif how == "reset":
        engine.reset()
        assert engine.cached_ids == ()
        assert [e.reason for e in reply] == ["cancelled"]
        assert engine.cached_ids == ()
    else:
        check_sound(engine)
        assert [e.reason for e in reply] == ["cancelled"]
    check_sound(engine)


def test_a_context_larger_than_memory_is_refused_with_its_size(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy()
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 100_000)
    with pytest.raises(NotEnoughMemoryError, match="KV cache of 512 tokens"):
        Engine(toy.model, ctx_size=512)
    monkeypatch.undo()
    engine = Engine(toy.model, ctx_size=512)
    assert list(engine.generate([1, 2, 3], SamplingParams(max_tokens=4)))[-1].reason == "length"


class Breaking:
    """The operations of a model; the at-th of all its calls misbehaves."""

    def __init__(self) -> None:
        self.calls = self.at = 0
        self.fault: Callable[[Any], Any] = out_of_memory

    def begin(self, at: int, fault: Callable[[Any], Any]) -> None:
        self.calls, self.at, self.fault = 0, at, fault

    def operations(self, layer: int) -> Operations:
        answers = ("norm", "attention_product", "feed_forward_product", "gated", "head_product")
        return replace(PLAIN, **{name: self.wrap(getattr(PLAIN, name)) for name in answers})

    def wrap(self, sound: Callable[..., Any]) -> Callable[..., Any]:
        def op(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            out = sound(*args, **kwargs)
            if self.calls == self.at:
                self.fault(out)
            return out

        return op


def poison(value: float) -> Callable[[Any], None]:
    def fault(out: np.ndarray) -> None:
        out[..., 0] = value

    return fault


def out_of_memory(out: np.ndarray) -> None:
    raise MemoryError


def reply_of(engine: Engine, ids: list[int]) -> tuple[int, ...]:
    finished = list(engine.generate(ids, SamplingParams(temperature=0.0, max_tokens=6)))[-1]
    assert isinstance(finished, Finished)
    return finished.ids


def assert_every_point_recovers(make_toy: Callable[..., Any], points: int) -> None:
    """A real model whose n-th operation yields NaN, infinity or no memory, n over the whole reply."""
    toy = make_toy()
    breaking = Breaking()
    model = Llama(toy.config, toy.weights, operations=breaking.operations)
    ids = np.random.default_rng(9).integers(0, 64, 40).tolist()
    expected = reply_of(Engine(model, 128), ids)
    total = breaking.calls
    faults = (poison(np.nan), poison(np.inf), poison(-np.inf), out_of_memory)
    failed = 0
    for point in range(points):
        at = 1 + point * total // points
        engine = Engine(model, 128)
        reply_of(engine, ids[:15])
        breaking.begin(at, faults[point % 4])
        try:
            reply_of(engine, ids)
        except (NumericalError, MemoryError):
            failed += 1
        assert len(engine.cached_ids) == engine._context.cache.length
        assert reply_of(engine, ids) == expected, f"after a fault in operation {at}"
    assert failed > points * 0.8, "most faults must have been noticed"


def test_a_fault_in_an_operation_of_the_real_model(make_toy: Callable[..., Any]) -> None:
    assert_every_point_recovers(make_toy, 24)


@pytest.mark.slow
def test_faults_in_200_operations_of_the_real_model(make_toy: Callable[..., Any]) -> None:
    assert_every_point_recovers(make_toy, 200)
