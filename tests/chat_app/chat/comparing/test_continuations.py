"""Eight ways to go on from a token: drawn in one batch, one kept or nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.comparing.continuations import DRAWN_N, MOST_TOKENS, Continuations
from chat_app.chat.conversation import token_ids
from chat_app.chat.token_scores import TokenScores, scored_text
from chat_app.config.settings import Settings
from llama_core.engine.batch.together import RepliesTogether
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage


def ways(*texts: str) -> Any:
    """A script that says one after the other, over and over."""
    turn = itertools.cycle(texts)
    return lambda turns: next(turn)


async def drawn(stage: Stage, message_id: str, at: int) -> Continuations:
    found = Continuations(stage.session, message_id, at)
    stage.spawn(found.draw())
    await stage.until(lambda: found.ended or found.error)
    return found


async def test_they_are_drawn_from_the_token_and_show_where_they_agree(stage: Stage) -> None:
    reply = await stage.say("go on")
    stage.engine.script = ways(" the cat", " the dog", " the cat")
    found = await drawn(stage, reply.id, 2)
    assert len(found.candidates) == DRAWN_N
    assert found.tree.text == " the"
    assert [(fork.text, len(fork.members)) for fork in found.tree.forks] == [(" cat", 5), (" dog", 3)]
    assert found.candidates[0].message.content == "token100 token101  the cat"
    assert found.tokens_n == 2
    assert not found.error
    found.leave()


async def test_leaving_leaves_nothing(stage: Stage) -> None:
    reply = await stage.say("go on")
    before = list(stage.session.conversation)
    found = await drawn(stage, reply.id, 1)
    assert stage.session.generating, "the engine is held while one looks"
    stage.session.submit("waits")
    assert stage.session.queue == ["waits"]
    assert list(stage.session.conversation) == before
    found.leave()
    await stage.until(lambda: stage.words()[-1] == "You said: waits" and stage.idle())
    assert [one.id for one in stage.session.conversation][:2] == [one.id for one in before]


async def test_one_that_is_whole_is_kept_as_it_is(stage: Stage) -> None:
    reply = await stage.say("go on")
    stage.engine.script = ways(" one", " two")
    found = await drawn(stage, reply.id, 1)
    stage.spawn(found.keep(1))
    await stage.until(stage.idle)
    kept = stage.path()[-1]
    assert kept.content == "token100  two"
    assert kept.status == "complete"
    assert kept.x["ids"] == [100, 100]
    assert "model" in kept.x
    assert [one.id for one in stage.session.conversation.siblings(reply.id)] == [reply.id, kept.id]
    assert stage.on_disk()[-1].content == kept.content
    # How likely the beginning and the rest were is there for the tint.
    assert "".join(one.text for one in scored_text(kept)) == kept.content


async def test_at_temperature_0_they_are_drawn_all_the_same(stage: Stage) -> None:
    settings = stage.session.settings
    stage.session.change_settings(replace(settings, params=replace(settings.params, temperature=0.0)))
    reply = await stage.say("go on")
    found = await drawn(stage, reply.id, 1)
    assert "At temperature 0 all would be the same" in found.note
    assert found.candidates[0].message.x["parameters"]["temperature"] == SamplingParams().temperature
    found.leave()


async def test_what_goes_wrong_is_said_and_the_engine_is_free_again(stage: Stage) -> None:
    reply = await stage.say("go on")
    message = stage.session.conversation.add("assistant", "from elsewhere", parent=reply.parent)
    found = await drawn(stage, message.id, 0)
    assert "no recorded tokens" in found.error
    found.leave()
    assert not stage.session.generating
    stage.engine.script = lambda turns: [" well", RuntimeError("a fault")]
    found = await drawn(stage, reply.id, 1)
    assert {one.error for one in found.candidates} == {"RuntimeError: a fault"}
    stage.spawn(found.keep(3))
    await stage.until(stage.idle)
    assert (stage.path()[-1].content, stage.path()[-1].status) == ("token100  well", "failed")


async def test_a_busy_model_draws_none(stage: Stage) -> None:
    reply = await stage.say("go on")
    stage.engine.script = lambda turns: stage.begun(turns)
    stage.session.submit("another")
    await stage.until(lambda: stage.session.reply and stage.session.reply.tokens)
    found = Continuations(stage.session, reply.id, 1)
    await found.draw()
    assert "busy" in found.error
    found.leave()
    stage.session.stop()
    await stage.until(stage.idle)


@pytest.fixture
async def real(tmp_path: Path, tiny_model: Path) -> AsyncIterator[Stage]:
    """A chat with a real model, of random weights."""
    params = SamplingParams(max_tokens=80, temperature=1.0, seed=1, ignore_eos=True)
    settings = Settings(model=str(tiny_model), backend="numpy", threads=1, save=False, params=params)
    async with Stage.with_model(tmp_path, settings) as stage:
        yield stage


async def test_the_prefix_is_computed_once_and_a_kept_one_goes_on(
    real: Stage, batches: list[RepliesTogether]
) -> None:
    reply = await real.say("a question of some length, so that its prompt is worth keeping")
    found = await drawn(real, reply.id, 10)
    # The context has the prompt and the reply: only the last token of each copy, and what is drawn.
    assert batches[0].computed_n == DRAWN_N + DRAWN_N * (MOST_TOKENS - 1)
    texts = {one.message.content for one in found.candidates}
    assert len(texts) == DRAWN_N
    assert {tuple(one.message.x["ids"][:10]) for one in found.candidates} == {token_ids(reply)[:10]}
    ids = found.candidates[5].message.x["ids"]
    real.spawn(found.keep(5))
    await real.until(real.idle)
    kept = real.path()[-1]
    assert kept.x["ids"][: len(ids)] == ids
    assert len(kept.x["ids"]) == len(ids) + 80
    assert kept.x["parameters"]["num_predict"] == 80
    scores = TokenScores.of(kept)
    assert len(scores) == len(kept.x["ids"])
    assert scores.logprobs[:10] == TokenScores.of(reply).logprobs[:10]
    assert not any(map(math.isnan, scores.logprobs))


async def test_the_fake_is_asked_for_all_at_once(stage: Stage, engine: FakeEngine) -> None:
    reply = await stage.say("go on")
    asked = len(engine.calls)
    (await drawn(stage, reply.id, 1)).leave()
    assert len(engine.calls) == asked + DRAWN_N


async def test_what_the_model_did_not_see_it_does_not_see_here(stage: Stage) -> None:
    """Where turns were left out for the reply, its branches say so too."""
    reply = await stage.say("go on")
    reply = replace(reply, x={**reply.x, "sees_from": reply.parent})
    stage.session.conversation.update(reply)
    found = await drawn(stage, reply.id, 1)
    assert found.candidates[0].message.x["sees_from"] == reply.parent
    found.leave()
    tokens = await real_tokens(stage, reply.id)
    stage.spawn(stage.session.branches.take_alternative(tokens, 1, 7))
    await stage.until(stage.idle)
    assert stage.path()[-1].x["sees_from"] == reply.parent


async def real_tokens(stage: Stage, message_id: str) -> Any:
    """The tokens of a reply, asked for while the stage takes the engine's news."""
    asked = asyncio.ensure_future(stage.session.branches.reply_tokens(message_id))
    await stage.until(asked.done)
    return asked.result()
