"""A small model's guesses: what it reads, when it keeps silent, and that no reply changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.engine.drafting import draft_model
from llama_core.engine.drafting.draft_model import MOST_GUESSES, READ_AT_ONCE, DraftModel
from llama_core.engine.drafting.first_of import FirstOf
from llama_core.engine.drafting.payoff import PAUSE_PASSES, PLAIN_STEPS, TRIAL_PASSES, Trial
from llama_core.engine.drafting.prompt_lookup import PromptLookup
from llama_core.engine.engine import Engine
from llama_core.errors import Cancelled
from llama_core.events import Finished
from llama_core.sampling.params import SamplingParams

EOS = 257
VOCAB = 260
PROMPT = [*b"question", 0]
REPLY = b"a rather long reply to go by, with no run of it twice"
Models = Callable[..., Any]


class Stopwatch:
    """Seconds as a test wants them: each reading is `step` after the last."""

    def __init__(self, step: float) -> None:
        self._now = 0.0
        self.step = step

    def __call__(self) -> float:
        self._now += self.step
        return self._now


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """A guess of the small model takes a thousandth of what a pass of the large one does."""
    stopwatch = Stopwatch(0.001)
    monkeypatch.setattr(draft_model.time, "perf_counter", stopwatch)
    return stopwatch


def timed(drafter: DraftModel, plain_s: float = 1.0) -> DraftModel:
    for _ in range(PLAIN_STEPS):
        drafter.observe(0, 0, plain_s)
    return drafter


def of(model: Any, capacity: int = 400, vocab_size: int = VOCAB) -> DraftModel:
    return timed(DraftModel(model, capacity, vocab_size))


def right_so_far(drafter: DraftModel) -> DraftModel:
    """All that it ever guessed was right."""
    for _ in range(PLAIN_STEPS):
        drafter.observe(MOST_GUESSES, MOST_GUESSES, 1.0)
    return drafter


def proposals(drafter: DraftModel, ids: list[int], limit: int = 100) -> list[int]:
    """What it proposes once it has read `ids`."""
    for _ in range(len(ids)):
        guesses = drafter.propose(ids, limit)
        if guesses:
            return guesses
    return []


def test_it_guesses_what_its_model_says(saying: Models) -> None:
    guesses = proposals(right_so_far(of(saying(REPLY))), PROMPT)
    assert bytes(guesses) == REPLY[:MOST_GUESSES]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_never_more_than_the_limit(saying: Models, limit: int) -> None:
    assert len(proposals(of(saying(REPLY)), PROMPT, limit)) == limit


def test_a_long_prompt_is_read_in_pieces(saying: Models) -> None:
    model = saying(REPLY, prefill_chunk=1000, max_seq_len=1000)
    drafter = of(model, 1000)
    ids = [7] * (2 * READ_AT_ONCE) + [0]
    drafter.start(ids)
    assert model.passes == []
    assert [bool(drafter.propose(ids, 1)) for _ in range(3)] == [False, False, True]
    assert [len(one) for one in model.passes] == [READ_AT_ONCE, READ_AT_ONCE, 1]


def test_it_reads_only_what_is_new(saying: Models) -> None:
    model = saying(REPLY, prefill_chunk=100)
    drafter = of(model)
    assert proposals(drafter, PROMPT, 4) == list(REPLY[:4])
    read = sum(map(len, model.passes))
    drafter.propose([*PROMPT, *REPLY[:2], 99], 1)  # two were right
    assert sum(map(len, model.passes)) == read + 1


def test_an_unsure_model_stops_early(scripted: Models) -> None:
    def script(ids: list[int]) -> np.ndarray:
        row = np.zeros(VOCAB, np.float32)
        row[65] = 20.0 if len(ids) < len(PROMPT) + 2 else 0.1
        return row

    drafter = of(scripted(script, prefill_chunk=100))
    assert proposals(drafter, PROMPT) == [65, 65]


def test_a_model_whose_guesses_were_wrong_makes_one_at_a_time(saying: Models) -> None:
    """However sure it is of itself."""
    model = saying(REPLY, prefill_chunk=100)
    drafter = of(model)
    drafter.propose(PROMPT, 100)
    for n in range(1, 5):
        drafter.observe(2, 0, 1.0)
        drafter.propose([*PROMPT, *REPLY[:n]], 100)
    read = len(model.passes)
    assert len(drafter.propose([*PROMPT, *REPLY[:6]], 100)) == 1
    assert len(model.passes) == read + 1, "no second guess is made to be thrown away"


def test_an_unsure_model_that_is_always_right_goes_on(scripted: Models) -> None:
    """At temperature 0 the likeliest token of both counts, whatever its probability."""

    def script(ids: list[int]) -> np.ndarray:
        row = np.zeros(VOCAB, np.float32)
        row[65] = 3.0
        return row

    drafter = of(scripted(script, prefill_chunk=100))
    ids = list(PROMPT)
    counts = []
    for _ in range(12):
        guesses = drafter.propose(ids, 100)
        counts.append(len(guesses))
        drafter.observe(len(guesses), len(guesses), 1.0 + 0.01 * len(guesses))
        ids += guesses
    assert counts[0] < 4
    assert counts[-1] == MOST_GUESSES


def test_a_step_that_was_slow_by_chance_ends_the_guessing_for_a_while_only(
    saying: Models, watch: Stopwatch
) -> None:
    drafter = right_so_far(of(saying(REPLY, prefill_chunk=100)))
    watch.step = 100.0
    proposals(drafter, PROMPT)
    watch.step = 0.001
    guesses = [len(drafter.propose([*PROMPT, *REPLY[:n]], 100)) for n in range(1, len(REPLY) - MOST_GUESSES)]
    assert guesses[0] == 1
    assert guesses[-1] == MOST_GUESSES


def test_the_user_need_not_wait_for_guesses(saying: Models) -> None:
    small = saying(REPLY, layers=1, prefill_chunk=100)
    drafter, asked = right_so_far(of(small)), []
    with pytest.raises(Cancelled):
        drafter.propose(PROMPT, 100, lambda: bool(asked.append(1) or len(asked) == 4))
    assert len(small.passes) == 4
    assert bytes(drafter.propose(PROMPT, 100)) == REPLY[:MOST_GUESSES], "it can be used at once"
    engine = Engine(saying(REPLY), drafter=of(saying(REPLY, before=lambda _: asked.append(1))))
    asked.clear()
    events = list(engine.generate(PROMPT, SamplingParams(), cancelled=lambda: len(asked) > 6))
    assert events[-1].reason == "cancelled"
    assert len(asked) == 7
    assert len(engine.cached_ids) == engine._context.cache.length


def test_a_reset_empties_its_context(saying: Models) -> None:
    small = saying(REPLY, prefill_chunk=100)
    engine = Engine(saying(REPLY), drafter=FirstOf(timed_lookup(), of(small)))
    params = SamplingParams(temperature=0.0)
    first = list(engine.generate(PROMPT, params, stop_ids=frozenset({EOS})))[-1]
    small.passes.clear()
    engine.reset()
    again = list(engine.generate(PROMPT, params, stop_ids=frozenset({EOS})))[-1]
    assert again.ids == first.ids
    assert small.passes[0][: len(PROMPT)] == PROMPT


def test_nothing_beyond_its_own_context_or_vocabulary(saying: Models) -> None:
    assert proposals(of(saying(REPLY), capacity=len(PROMPT)), PROMPT) == []
    assert len(proposals(of(saying(REPLY), capacity=len(PROMPT) + 2), PROMPT)) == 2
    assert proposals(of(saying(REPLY)), [300, *PROMPT]) == [], "an id that it cannot read"
    assert max(proposals(of(saying(bytes([250])), vocab_size=240), PROMPT, 1)) < 240


def test_numbers_that_are_not_finite_silence_it_for_the_reply(scripted: Models) -> None:
    answers = [np.full(VOCAB, np.nan, np.float32)]

    def script(ids: list[int]) -> np.ndarray | int:
        return answers[0] if answers else 65

    drafter = of(scripted(script, prefill_chunk=100))
    assert proposals(drafter, PROMPT) == []
    answers.clear()
    assert proposals(drafter, PROMPT) == []
    drafter.start(PROMPT)
    assert set(proposals(drafter, PROMPT)) == {65}


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("small", [REPLY, b"another reply altogether", REPLY[:20] + b"?" + REPLY[21:]])
def test_no_reply_changes(saying: Models, small: bytes, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, seed=5)
    large = saying(REPLY)
    drafter = FirstOf(timed_lookup(), of(saying(small)))
    events = list(Engine(large, drafter=drafter).generate(PROMPT, params, stop_ids=frozenset({EOS})))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert bytes(finished.ids) == REPLY
    if small == REPLY:
        assert finished.timings.draft_accepted_n > len(REPLY) // 2
        assert len(large.passes) < len(REPLY)


def timed_lookup() -> PromptLookup:
    lookup = PromptLookup()
    for _ in range(PLAIN_STEPS):
        lookup.observe(0, 0, 1.0)
    return lookup


def test_of_two_drafters_the_first_with_a_guess_is_taken_and_told(saying: Models) -> None:
    lookup, small = timed_lookup(), of(saying(REPLY))
    both = FirstOf(lookup, small)
    both.start([1, 2, 3, 4, 1, 2, 3])
    assert both.propose([1, 2, 3, 4, 1, 2, 3], 1) == [4]
    both.start(PROMPT)
    seen: list[int] = []
    small.observe = lambda *x: seen.append(x[0])  # type: ignore[method-assign]
    for _ in PROMPT:
        if guesses := both.propose(PROMPT, 2):
            break
    assert list(guesses) == list(REPLY[:2])
    both.observe(2, 2, 1.0)
    both.observe(0, 0, 1.0)
    assert seen == [2, 0]
    assert both.nbytes == small.nbytes > 0


def test_closing_ends_the_model(saying: Models) -> None:
    model = saying(REPLY)
    FirstOf(PromptLookup(), of(model)).close()
    assert model.closed == 1


def turns(trial: Trial, n: int) -> int:
    return sum(trial.take_turn() for _ in range(n))


def test_a_trial_that_does_not_pay_pauses_longer_and_longer() -> None:
    trial = Trial()
    for pause in (PAUSE_PASSES[0], 2 * PAUSE_PASSES[0], 4 * PAUSE_PASSES[0]):
        for _ in range(TRIAL_PASSES):
            assert trial.take_turn()
            trial.observe(2, 2.1, 1.0)  # two tokens in the time of 2.1
        assert turns(trial, pause) == 0


def test_a_trial_that_pays_goes_on_with_a_plain_pass_now_and_then() -> None:
    trial = Trial()
    plain = 0
    for _ in range(100):
        if trial.take_turn():
            trial.observe(3, 1.5, 1.0)
        else:
            plain += 1
    assert 3 <= plain <= 8
