"""Guessed tokens change how fast a reply comes, never what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

from llama_core.engine.engine import Engine
from llama_core.events import TokenEvent
from llama_core.sampling.params import SamplingParams

EOS = 257
PROMPT = [*b"question", 0]
GREEDY = SamplingParams(temperature=0.0)


class Oracle:
    """Guesses from a known reply, wrong at the places in `wrong`."""

    def __init__(self, reply: bytes, wrong: set[int] = frozenset(), n: int = 4) -> None:  # type: ignore[assignment]
        self.reply, self.wrong, self.n = reply, wrong, n
        self.seen: list[tuple[int, int]] = []
        self.limits: list[int] = []
        self.started: list[int] = []

    def start(self, ids: Sequence[int]) -> None:
        self.started = list(ids)

    def propose(self, ids: Sequence[int], limit: int, cancelled: Any = None) -> Sequence[int]:
        self.limits.append(limit)
        place = len(ids) - len(PROMPT)
        guesses = [
            (c + 1) % 256 if place + i in self.wrong else c
            for i, c in enumerate(self.reply[place : place + self.n])
        ]
        return guesses[:limit]

    def observe(self, drafted_n: int, accepted_n: int, pass_s: float) -> None:
        assert pass_s >= 0
        self.seen.append((drafted_n, accepted_n))

    nbytes = 0

    def close(self) -> None:
        """Nothing is held."""


REPLY = b"a rather long reply to go by"


@pytest.mark.parametrize("wrong", [set(), {0}, {1}, {3}, {4, 9, 10}, set(range(40)), {27}, {28}])
@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_reply_with_guesses_equals_the_one_without(
    saying: Callable[..., Any], wrong: set[int], n: int
) -> None:
    model = saying(REPLY)
    drafter = Oracle(REPLY, wrong, n)
    engine = Engine(model, drafter=drafter)
    events = list(engine.generate(PROMPT, GREEDY, stop_ids=frozenset({EOS})))
    finished = events[-1]
    assert bytes(finished.ids) == REPLY
    assert finished.reason == "stop"
    assert [e.index for e in events if isinstance(e, TokenEvent)] == list(range(len(REPLY)))
    assert engine.cached_ids == (*PROMPT, *REPLY), "wrong guesses are forgotten"
    assert engine.cached_ids == tuple(engine._context.cache.ids)
    drafted = sum(e.drafted for e in events if isinstance(e, TokenEvent))
    assert finished.timings.draft_accepted_n == drafted
    assert finished.timings.draft_n >= drafted
    assert drafter.started == PROMPT
    if not wrong:
        assert len(model.passes) < 4 + len(REPLY) / (n + 1) + 1
        assert drafter.seen[0] == (n, n)


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 5, 6])
def test_guesses_never_go_beyond_the_reply_or_the_context(
    saying: Callable[..., Any], max_tokens: int
) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    engine = Engine(saying(REPLY), drafter=Oracle(REPLY))
    events = list(engine.generate(PROMPT, params))
    assert bytes(events[-1].ids) == REPLY[:max_tokens]
    assert events[-1].reason == "length"
    small = Engine(saying(REPLY), ctx_size=len(PROMPT) + max_tokens, drafter=Oracle(REPLY))
    events = list(small.generate(PROMPT, GREEDY))
    assert bytes(events[-1].ids) == REPLY[:max_tokens]
    assert events[-1].reason == "context"


def test_a_sampled_reply_is_the_same_with_and_without_guesses(scripted: Callable[..., Any]) -> None:
    """The same seed draws the same numbers in the same order, so that the distribution cannot change."""
    rng = np.random.default_rng(0)
    table = (rng.standard_normal((260, 260)) * 2).astype(np.float32)
    params = SamplingParams(temperature=1.0, max_tokens=60, seed=5, repeat_penalty=1.2)
    plain = list(Engine(scripted(lambda ids: table[ids[-1]])).generate(PROMPT, params))[-1].ids
    half_right = Oracle(bytes(i % 256 for i in plain), set(range(0, 60, 3)))
    drafted = list(Engine(scripted(lambda ids: table[ids[-1]]), drafter=half_right).generate(PROMPT, params))
    assert drafted[-1].ids == plain
    assert drafted[-1].timings.draft_accepted_n > 5


def test_closed_between_accepted_guesses_the_engine_is_consistent(saying: Callable[..., Any]) -> None:
    for taken in range(1, 12):
        engine = Engine(saying(REPLY), drafter=Oracle(REPLY))
        reply = engine.generate(PROMPT, GREEDY)
        got = [e for e in islice(reply, 3 + taken) if isinstance(e, TokenEvent)]
        reply.close()
        said = bytes(e.id for e in got)
        assert engine.cached_ids in ((*PROMPT, *said), (*PROMPT, *said[:-1]))
        assert engine.cached_ids == tuple(engine._context.cache.ids)
