"""Regenerate, edit, continue, branch: with a fake engine and without a screen."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from chat_app.engines.base import Prompt, PromptRequest
from llama_core.errors import TemplateError
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage


async def test_regenerate_makes_a_sibling(stage: Stage) -> None:
    first = await stage.say("question")
    stage.engine.script = lambda turns: "another"
    stage.spawn(stage.session.branches.regenerate(first.id))
    await stage.until(lambda: stage.words()[-1] == "another" and stage.idle())
    assert [one.content for one in stage.session.conversation.siblings(first.id)] == [
        "You said: question",
        "another",
    ]
    assert stage.session.branches.switch_branch(stage.path()[-1].id, -1) == first.id
    assert stage.words()[-1] == "You said: question"
    assert stage.session.branches.switch_branch(first.id, -1) is None


async def test_editing_branches_and_keeps_the_old(stage: Stage) -> None:
    await stage.say("first")
    await stage.say("second")
    question = stage.path()[2]
    stage.spawn(stage.session.branches.edit(question.id, "second, better"))
    await stage.until(
        lambda: stage.words()[2] == "second, better" and len(stage.path()) == 4 and stage.idle()
    )
    assert stage.words()[3] == "You said: second, better"
    assert stage.engine.calls[-1][1][0] == {"role": "user", "content": "first"}
    stage.session.branches.switch_branch(stage.path()[2].id, -1)
    assert stage.words()[2:] == ["second", "You said: second"]


async def test_editing_the_first_message_keeps_the_system_prompt(stage: Stage) -> None:
    stage.session.set_system("be brief")
    await stage.say("first")
    stage.spawn(stage.session.branches.edit(stage.path()[0].id, "changed"))
    await stage.until(lambda: stage.words() == ["changed", "You said: changed"] and stage.idle())
    assert [turn["role"] for turn in stage.engine.calls[-1][1]] == ["system", "user"]


async def test_continue_grows_the_same_message(stage: Stage) -> None:
    stage.engine.script = lambda turns: "first half,"
    reply = await stage.say("tell")
    stage.engine.script = lambda turns: " second half"
    stage.spawn(stage.session.branches.continue_reply(reply.id))
    await stage.until(lambda: stage.words()[-1] == "first half, second half" and stage.idle())
    assert stage.path()[-1].id == reply.id
    assert stage.engine.calls[-1][0] == "continue"
    assert len(stage.on_disk()[-1].x["ids"]) == 4


async def test_branching_goes_back(stage: Stage) -> None:
    await stage.say("first")
    await stage.say("second")
    stage.session.branches.branch(stage.path()[1].id)
    assert len(stage.path()) == 2
    await stage.say("other")
    assert stage.words()[2:] == ["other", "You said: other"]
    assert len(stage.session.conversation) == 6


@pytest.mark.parametrize("place", [0, 2])
async def test_branching_at_a_question_takes_its_place(stage: Stage, place: int) -> None:
    """Two questions in a row would have no answer between them, which many templates refuse."""
    await stage.say("first")
    await stage.say("second")
    everything = stage.words()
    stage.session.branches.branch(stage.path()[place].id)
    assert stage.words() == everything[:place]
    assert "← on the new one" in stage.view.notes[-1]
    await stage.say("other")
    assert stage.words() == [*everything[:place], "other", "You said: other"]
    stage.session.branches.switch_branch(stage.path()[place].id, -1)
    assert stage.words() == everything


def parameters(stage: Stage, **given: object) -> None:
    settings = stage.session.settings
    stage.session.change_settings(replace(settings, params=replace(settings.params, **given)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "why"), [({"temperature": 0.0}, "temperature 0"), ({"seed": 5}, "seed 5")])
async def test_another_reply_is_not_the_same_one(stage: Stage, given: dict[str, object], why: str) -> None:
    """Greedy, or with a fixed seed, the same prompt gives the same reply: another one is drawn, and told."""
    parameters(stage, **given)
    first = await stage.say("question")
    stage.spawn(stage.session.branches.regenerate(first.id))
    await stage.until(lambda: stage.path()[-1].id != first.id and stage.idle())
    assert stage.path()[-1].x["parameters"]["temperature"] > 0
    assert any(why in note for note in stage.view.notes)
    assert stage.session.settings.params.temperature == first.x["parameters"]["temperature"]


async def test_other_parameters_are_another_reply_already(stage: Stage) -> None:
    first = await stage.say("question")
    parameters(stage, temperature=0.0)
    stage.spawn(stage.session.branches.regenerate(first.id))
    await stage.until(lambda: stage.path()[-1].id != first.id and stage.idle())
    assert stage.path()[-1].x["parameters"]["temperature"] == 0.0
    assert stage.view.notes == []


async def test_the_inspector_sees_the_prompt_that_the_reply_had(stage: Stage) -> None:
    """Also after the oldest turns were left out: it never asks for more than the context held."""
    await stage.say("one two three")
    stage.engine.ctx_size = 30
    second = await stage.say("four five six seven eight nine ten eleven")
    assert second.x["sees_from"] == stage.path()[2].id == stage.session.conversation.cut
    reply = await stage.session.branches.reply_tokens(second.id)
    assert [turn.content for turn in reply.prompt.turns] == ["four five six seven eight nine ten eleven"]
    assert reply.ids == list(second.x["ids"])
    look = await stage.session.branches.look_at(reply, 1)
    assert look.chosen.id == reply.ids[1]


async def test_an_engine_without_tokens_says_so(stage: Stage) -> None:
    reply = await stage.say("question")
    stage.engine.tokens = None  # type: ignore[assignment]
    with pytest.raises(LookupError, match="shows no tokens"):
        await stage.session.branches.split("text")
    stage.engine.tokens = FakeEngine().tokens
    assert (await stage.session.branches.reply_tokens(reply.id)).ids == list(reply.x["ids"])


async def test_a_token_that_cannot_be_taken_leaves_the_engine_free(stage: Stage) -> None:
    reply = await stage.say("question")
    tokens = await stage.session.branches.reply_tokens(reply.id)
    stage.engine.tokens = None  # type: ignore[assignment]
    with pytest.raises(LookupError, match="shows no tokens"):
        await stage.session.branches.take_alternative(tokens, 0, 7)
    assert not stage.session.generating


async def test_a_token_whose_branch_is_stopped_before_it_begins_leaves_none(stage: Stage) -> None:
    reply = await stage.say("question")
    tokens = await stage.session.branches.reply_tokens(reply.id)
    go_on = threading.Event()
    stage.host.ask(lambda engine: go_on.wait(20))
    taken = asyncio.ensure_future(stage.session.branches.take_alternative(tokens, 0, 7))
    await asyncio.sleep(0)
    assert stage.session.stop()
    go_on.set()
    await taken
    assert stage.path()[-1].id == reply.id
    assert len(stage.session.conversation) == 2


async def test_a_thought_that_cannot_be_reopened_leaves_the_engine_free(stage: Stage) -> None:
    def broken(request: PromptRequest) -> Prompt:
        raise TemplateError("It failed.")

    reply = await stage.say("question")
    stage.session.conversation.update(replace(reply, x={**reply.x, "thought": "hm"}))
    stage.engine.prepare = broken  # type: ignore[method-assign]
    with pytest.raises(TemplateError):
        await stage.session.branches.think_on(reply.id)
    assert not stage.session.generating
