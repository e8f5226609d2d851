"""Prompt lookup: what it guesses, when it keeps silent, and that no reply changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llama_core.engine.drafting.payoff import PLAIN_STEPS
from llama_core.engine.drafting.prompt_lookup import MOST_GUESSES, PromptLookup
from llama_core.engine.engine import Engine
from llama_core.events import Finished, TokenEvent
from llama_core.sampling.params import SamplingParams

EOS = 257


def warm(plain_s: float = 1.0, guess_s: float | None = None) -> PromptLookup:
    """A lookup that has timed plain steps, and passes with guesses where `guess_s` is given."""
    lookup = PromptLookup()
    for _ in range(PLAIN_STEPS):
        lookup.observe(0, 0, plain_s)
    if guess_s is not None:
        for _ in range(60):
            lookup.observe(4, 4, plain_s + 4 * guess_s)
    return lookup


def test_it_guesses_what_followed_the_latest_occurrence() -> None:
    lookup = warm(guess_s=0.01)
    ids = [1, 2, 3, 50, 51, 52, 9, 1, 2, 3, 60, 61, 62, 8, 1, 2, 3]
    lookup.start(ids)
    assert lookup.propose(ids, 3) == [60, 61, 62]


def test_a_longer_run_is_preferred() -> None:
    lookup = warm(guess_s=0.01)
    ids = [7, 1, 2, 3, 40, 41, 5, 2, 3, 90, 91, 7, 1, 2, 3]
    lookup.start(ids)
    assert lookup.propose(ids, 2) == [40, 41]


def test_the_reply_is_looked_up_too() -> None:
    lookup = warm(guess_s=0.01)
    ids = [10, 11, 12, 13]
    lookup.start(ids)
    for new in (20, 21, 22, 23, 20, 21):
        ids.append(new)
        guesses = lookup.propose(ids, 2)
    assert guesses == [22, 23]


@pytest.mark.parametrize("limit", [0, 1, 5, 100])
def test_never_more_than_the_limit_nor_than_is_known(limit: int) -> None:
    lookup = warm(guess_s=0.001)
    ids = list(range(40)) + list(range(10))
    lookup.start(ids)
    guesses = lookup.propose(ids, limit)
    assert guesses == list(range(10, 10 + min(limit, MOST_GUESSES)))
    short = [1, 2, 3, 1, 2]
    lookup.start(short)
    assert lookup.propose(short, 50) == [3, 1, 2]


def test_nothing_new_nothing_guessed() -> None:
    lookup = warm(guess_s=0.01)
    lookup.start([1, 2, 3, 4])
    assert lookup.propose([1, 2, 3, 4, 5, 6], 5) == []
    assert lookup.propose([1], 5) == []


def test_silent_until_plain_steps_are_timed() -> None:
    ids = [1, 2, 3, 4, 1, 2, 3]
    lookup = PromptLookup()
    lookup.start(ids)
    for _ in range(PLAIN_STEPS):
        assert lookup.propose(ids, 4) == []
        lookup.observe(0, 0, 1.0)
    assert lookup.propose(ids, 4)


def test_costly_passes_end_the_guessing() -> None:
    """Where a guess costs as much as a token, none is made."""
    lookup = warm(guess_s=1.0)
    ids = [1, 2, 3, 4, 1, 2, 3]
    lookup.start(ids)
    assert lookup.propose(ids, 4) == []


def test_a_pass_that_was_slow_by_chance_ends_the_guessing_for_a_while_only() -> None:
    lookup = warm(guess_s=0.01)
    ids = [1, 2, 3, 4, 1, 2, 3]
    lookup.start(ids)
    lookup.observe(4, 4, 100.0)
    waits = 0
    while not lookup.propose(ids, 4):
        lookup.observe(0, 0, 1.0)
        waits += 1
        assert waits < 500
    assert waits > 3


def test_wrong_guesses_end_the_guessing_for_a_while() -> None:
    lookup = warm(guess_s=0.3)
    ids = [1, 2, 3, 4, 1, 2, 3]
    lookup.start(ids)
    tries = 0
    while lookup.propose(ids, 4):
        lookup.observe(4, 0, 2.2)
        tries += 1
        assert tries < 20
    assert tries >= 1
    waits = 0
    while not lookup.propose(ids, 4):
        waits += 1
        assert waits < 500
    assert waits > 3


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_reply_that_repeats_itself_is_drafted_and_unchanged(
    saying: Callable[..., Any], temperature: float
) -> None:
    reply = b"abcdefgh " * 8
    params = SamplingParams(temperature=temperature, seed=5)
    plain = list(Engine(saying(reply)).generate([*b"say", 0], params, stop_ids=frozenset({EOS})))
    lookup = warm(plain_s=1e9, guess_s=0.0)  # guessing always pays here
    engine = Engine(saying(reply), drafter=lookup)
    drafted = list(engine.generate([*b"say", 0], params, stop_ids=frozenset({EOS})))
    ends = [events[-1] for events in (plain, drafted)]
    assert all(isinstance(end, Finished) for end in ends)
    assert ends[0].ids == ends[1].ids
    timings = ends[1].timings
    marked = [e for e in drafted if isinstance(e, TokenEvent) and e.drafted]
    assert timings.draft_accepted_n == len(marked) > len(reply) // 2
    assert timings.draft_n >= timings.draft_accepted_n
    assert ends[0].timings.draft_n == 0
