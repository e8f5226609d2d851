"""Several replies at once: each is what it would be alone, and what they share is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import random_weights
from llama_core.config import ModelConfig
from llama_core.constraints.grammar import Grammar
from llama_core.engine.batch.together import AskedReply, RepliesTogether
from llama_core.engine.engine import Engine
from llama_core.engine.load import load_engine
from llama_core.engine.loops import LoopWatch
from llama_core.engine.reply.events import ReplyEvents
from llama_core.engine.reply.text import ReplyText
from llama_core.engine.rules import NO_RULES
from llama_core.engine.text import TextEngine
from llama_core.errors import ContextFullError, GrammarError
from llama_core.events import Finished, TextDelta, TokenEvent
from llama_core.profiling.synthetic import NoTokenizer
from llama_core.sampling.params import SamplingParams
from tests.support.tiny_chat import write_tiny_chat
from tests.support.tiny_shapes import SHAPE, STATES

PROMPT = "one prompt that all of them share, and that is long enough to be worth it. "
MIB = 1 << 20


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextEngine]:
    path = write_tiny_chat(tmp_path_factory.mktemp("together") / "tiny.gguf")
    made = load_engine(path, backend="numpy", threads=1)
    yield made
    made.close()


def asked(engine: TextEngine, n: int = 8, text: str = PROMPT, **params: Any) -> list[AskedReply]:
    ids = tuple(engine.tokenizer.encode(text))
    given = {"temperature": 1.0, "max_tokens": 12, **params}
    return [AskedReply(ids, SamplingParams(seed=seed, **given)) for seed in range(n)]


def ends(told: list[tuple[int, Any]]) -> dict[int, Any]:
    return {place: event for place, event in told if isinstance(event, Finished | Exception)}


def test_each_is_what_it_would_be_alone(engine: TextEngine) -> None:
    wanted = asked(engine)
    alone = [list(engine.generate(one.prompt_ids, one.params, top_n=3)) for one in wanted]
    engine.reset()
    told = list(RepliesTogether(engine, kv_budget_bytes=16 * MIB, top_n=3).run(wanted))
    for place, events in enumerate(alone):
        mine = [event for at, event in told if at == place]
        for kind, name in ((TokenEvent, "id"), (TokenEvent, "context_n"), (TextDelta, "text")):
            found = [getattr(event, name) for event in mine if isinstance(event, kind)]
            assert found == [getattr(event, name) for event in events if isinstance(event, kind)]
        last = mine[-1]
        assert isinstance(last, Finished)
        assert isinstance(events[-1], Finished)
        assert (last.reason, last.ids, last.seed) == (events[-1].reason, events[-1].ids, place)
        assert last.timings.cache_n + last.timings.prompt_n == len(wanted[0].prompt_ids)
    tops = [event.top for _, event in told if isinstance(event, TokenEvent)]
    assert {len(top) for top in tops} == {3}


def test_what_they_share_is_computed_once(engine: TextEngine) -> None:
    wanted = asked(engine, ignore_eos=True)
    n = len(wanted[0].prompt_ids)
    engine.reset()
    together = RepliesTogether(engine, kv_budget_bytes=16 * MIB)
    list(together.run(wanted))
    # Its last token is computed by each, since each needs what follows it.
    assert together.computed_n == n - 1 + 8 + 8 * 11
    again = RepliesTogether(engine, kv_budget_bytes=16 * MIB)
    list(again.run(wanted))
    assert again.computed_n == 8 + 8 * 11, "the engine's context has it already"
    assert list(engine.engine.cached_ids) == list(wanted[0].prompt_ids[:-1])


@pytest.mark.parametrize("family", ["lfm2", "qwen35"])
def test_a_model_with_states_shares_the_prefix_too(family: str) -> None:
    """It goes back to snapshots alone, so one is taken where the prompts part from what the context holds."""
    config = ModelConfig(**{**SHAPE, **STATES, "qk_norm": True, "architecture": family})
    model = Llama(config, random_weights(config, 2), threads=1)
    tokenizer: Any = NoTokenizer()

    def reply_events(ids: Any, params: SamplingParams, **how: Any) -> ReplyEvents:
        return ReplyEvents(ReplyText(tokenizer), LoopWatch(0), None, params)

    parts: Any = SimpleNamespace(
        engine=Engine(model, 256),
        model=model,
        ctx_size=256,
        tokenizer=tokenizer,
        rules=SimpleNamespace(of=lambda *given, **how: NO_RULES),
        reply_events=reply_events,
    )
    ids = tuple(range(2, 60)) + tuple(range(20, 40))
    greedy = SamplingParams(temperature=0.0, max_tokens=30)
    *_, whole = parts.engine.generate(ids, greedy)
    assert isinstance(whole, Finished)
    begun = (*ids, *whole.ids[:15])  # in the middle of what the context holds
    rest = SamplingParams(temperature=0.0, max_tokens=15)
    together = RepliesTogether(parts, kv_budget_bytes=16 * MIB)
    told = ends(list(together.run([AskedReply(begun, rest)] * 4)))
    assert [event.ids for event in told.values()] == [whole.ids[15:]] * 4
    once = together.computed_n - 4 * 15
    assert 0 < once < len(begun)
    assert {event.timings.prompt_n for event in told.values()} == {1}
    model.close()


def test_what_the_context_holds_of_one_stays(engine: TextEngine) -> None:
    """Prompts that begin apart leave the context as it is: the chat goes on from there."""
    (one,), (other,) = asked(engine, 1), asked(engine, 1, "another one. " + PROMPT)
    list(engine.generate(one.prompt_ids, one.params))
    held = engine.engine.cached_ids
    together = RepliesTogether(engine, kv_budget_bytes=16 * MIB)
    told = list(together.run([one, other]))
    assert engine.engine.cached_ids == held
    assert ends(told)[0].timings.prompt_n == 1
    assert ends(told)[1].timings.cache_n == 0


def test_a_beginning_counts_to_the_reply(engine: TextEngine) -> None:
    """What a reply is held to has seen its beginning."""
    ids = tuple(engine.tokenizer.encode(PROMPT))
    begun = tuple(engine.tokenizer.encode("a"))
    params = SamplingParams(temperature=1.0, seed=1, max_tokens=9, grammar=Grammar("regex", "abc"))
    together = RepliesTogether(engine, kv_budget_bytes=16 * MIB)
    told = list(together.run([AskedReply(ids + begun, params, begun_n=1)]))
    assert "".join(event.text for _, event in told if isinstance(event, TextDelta)) == "bc"


def test_one_that_cannot_be_leaves_the_others(engine: TextEngine) -> None:
    good = asked(engine, 2)
    long = AskedReply(tuple(good[0].prompt_ids * 9)[:600], good[0].params)
    odd = AskedReply(good[0].prompt_ids, SamplingParams(grammar=Grammar("regex", "(")))
    told = ends(list(RepliesTogether(engine, kv_budget_bytes=16 * MIB).run([long, good[0], odd, good[1]])))
    assert isinstance(told[0], ContextFullError)
    assert isinstance(told[2], GrammarError)
    assert isinstance(told[1], Finished)
    assert isinstance(told[3], Finished)


def test_it_stops_when_it_is_told_to(engine: TextEngine) -> None:
    seen: list[Any] = []
    run = RepliesTogether(engine, kv_budget_bytes=16 * MIB).run(
        asked(engine, 3, ignore_eos=True), lambda: len(seen) > 12
    )
    for told in run:
        seen.append(told)
    last = ends(seen)
    assert {event.reason for event in last.values()} == {"cancelled"}
    assert len(last) == 3
    assert all(1 <= len(event.ids) < 12 for event in last.values())
    engine.reset()
    at_once = list(RepliesTogether(engine).run(asked(engine, 2), lambda: True))
    assert [event.reason for event in ends(at_once).values()] == ["cancelled", "cancelled"]
