"""Thoughts in a chat: kept apart, sent again where the template wants them, ended and reopened by a key."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.commands import SLASH
from chat_app.chat.conversation import Message
from chat_app.chat.replay import replay_chat
from chat_app.chat.token_scores import NOWHERE, scored_text
from chat_app.config.settings import Settings, set_parameter
from llama_core.sampling.params import SamplingParams
from tests.llama_core.engine.conftest import ScriptedModel
from tests.support.stage import Stage
from tests.support.thinker import computed, text_of, thinker

GREEDY = SamplingParams(temperature=0.0, max_tokens=300)
SHORT = b"<think>\nhm, so\n</think>\n\nyes </think> <think>"
ENDLESS = b"<think>\n" + b"hm, " * 400


async def stage_of(
    home: Path, reply: bytes, params: SamplingParams = GREEDY, **options: Any
) -> tuple[Stage, ScriptedModel]:
    engine, model = thinker(reply, **options)
    stage = Stage(home, engine, Settings(params=params))  # type: ignore[arg-type]
    await stage.load()
    return stage, model


def assert_answer_is_scored(reply: Message) -> None:
    """Each piece of the answer is known, and none of the thought."""
    pieces = scored_text(reply)
    assert "".join(one.text for one in pieces) == reply.content
    assert pieces[0].at >= reply.x["thought_n"]
    assert not any(math.isnan(one.logprob) for one in pieces)


def parts(message: Message) -> tuple[Any, str]:
    return message.x.get("thought"), message.content


async def test_a_thought_is_kept_apart_and_on_disk(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, SHORT)
    reply = await stage.say("why?")
    assert parts(reply) == ("hm, so", "yes </think> <think>")
    assert parts(stage.on_disk()[-1]) == parts(reply)
    assert (stage.view.thoughts[reply.id], stage.view.texts[reply.id]) == parts(reply)
    assert text_of(reply.x["ids"]) == SHORT
    assert text_of(reply.x["ids"][reply.x["thought_n"] :]) == b"yes </think> <think>"
    assert_answer_is_scored(stage.on_disk()[-1])


async def test_the_next_question_is_asked_without_the_thought(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, SHORT)
    await stage.say("why?")
    again = await stage.say("and then?")
    asking = asyncio.ensure_future(stage.session.branches.reply_tokens(again.id))
    await stage.until(asking.done)
    assert text_of(asking.result().prompt.ids or ()) == b"why?\nyes </think> <think>\nand then?\n"


async def test_a_thought_that_was_cut_stays_one_and_goes_on(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, SHORT, replace(GREEDY, max_tokens=10))
    reply = await stage.say("why?")
    assert parts(reply) == ("hm", "")
    stage.session.change_settings(replace(stage.session.settings, params=GREEDY))
    await stage.session.branches.continue_reply(reply.id)
    await stage.until(stage.idle)
    assert parts(stage.path()[-1]) == ("hm, so", "yes </think> <think>")
    assert text_of(stage.path()[-1].x["ids"]) == SHORT
    assert_answer_is_scored(stage.on_disk()[-1])


async def test_a_reply_begun_by_hand_records_all_its_tokens(tmp_path: Path) -> None:
    """How likely the words by hand were is not known; the tokens they became are."""
    stage, _ = await stage_of(tmp_path, b"a tale of it all")
    reply = await stage.say("why?")
    await stage.session.branches.edit(reply.id, "a tale")
    await stage.session.branches.continue_reply(stage.path()[-1].id)
    await stage.until(stage.idle)
    again = stage.on_disk()[-1]
    assert again.content.startswith("a tale")
    assert text_of(again.x["ids"]).decode() == again.content
    begun, *rest = scored_text(again)
    assert (begun.text, begun.at, math.isnan(begun.logprob)) == ("a tale", NOWHERE, True)
    assert rest[0].at == len("a tale")


async def test_answer_now_closes_the_thought_and_computes_nothing_anew(tmp_path: Path) -> None:
    stage, model = await stage_of(tmp_path, ENDLESS, replace(GREEDY, max_tokens=1500))
    stage.session.submit("why?")
    await stage.until(lambda: stage.session.reply is not None and stage.session.reply.thought.n > 20)
    stage.session.answer_now()
    await stage.until(stage.idle)
    reply = stage.path()[-1]
    assert reply.content == "yes"
    assert reply.x["thought"].startswith("hm, hm, hm,")
    closed = reply.x["thought_closed"]
    assert text_of(reply.x["ids"][closed:]) == b"\n</think>\n\nyes"
    assert computed(model) == 1 + len(b"why?\n") + len(reply.x["ids"]), "each token once"


async def test_think_on_reopens_a_thought_that_was_ended(tmp_path: Path) -> None:
    stage, model = await stage_of(tmp_path, ENDLESS, replace(GREEDY, thinking=20))
    reply = await stage.say("why?")
    assert reply.content == "yes"
    before = computed(model)
    await stage.session.branches.think_on(reply.id)
    await stage.until(stage.idle)
    again = stage.path()[-1]
    assert again.id != reply.id, "the old one stays"
    assert len(stage.session.conversation.siblings(again.id)) == 2
    assert again.x["thought"].startswith(reply.x["thought"])
    assert len(again.x["thought"]) > 200
    assert computed(model) - before <= again.x["thought_n"] - reply.x["thought_closed"] + 2
    await stage.session.branches.think_on(stage.path()[0].id)
    assert "no thought" in stage.view.notes[-1]


async def test_think_on_after_the_models_own_end_makes_it_doubt(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, SHORT)
    reply = await stage.say("why?")
    await stage.session.branches.think_on(reply.id)
    await stage.until(stage.idle)
    assert stage.path()[-1].x["thought"] == "hm, so\n\nWait,"


async def test_a_reply_whose_thought_was_ended_replays(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, ENDLESS, replace(GREEDY, max_tokens=1500, temperature=0.7))
    stage.session.submit("why?")
    await stage.until(lambda: stage.session.reply is not None and stage.session.reply.thought.n > 20)
    stage.session.answer_now()
    await stage.until(stage.idle)
    engine, _ = thinker(ENDLESS)
    replayed = list(replay_chat(engine, stage.session.conversation))
    assert [one.outcome for one in replayed] == ["same"], replayed


@pytest.mark.parametrize(
    ("typed", "value"), [("on", "on"), ("off", "off"), ("auto", None), ("512", 512), ("0", 0)]
)
def test_think_is_a_parameter(typed: str, value: Any) -> None:
    assert set_parameter(Settings(), "think", typed).params.thinking == value


@pytest.mark.parametrize("typed", ["maybe", "-1", "1.5"])
def test_think_refuses_other_words(typed: str) -> None:
    with pytest.raises(ValueError, match="auto, on, off"):
        set_parameter(Settings(), "think", typed)


async def test_think_off_is_what_the_template_makes_of_it(tmp_path: Path) -> None:
    stage, model = await stage_of(tmp_path, b"no thought", replace(GREEDY, thinking="off"))
    await stage.say("why?")
    assert text_of(model.passes[0]) == b"why?\n<think></think>"


class Host:
    """As much of a host as the command needs."""

    def __init__(self, stage: Stage) -> None:
        self.session = stage.session
        self.notes: list[str] = []

    def note(self, text: str, severity: str = "information") -> None:
        self.notes.append(text)


async def test_the_command(tmp_path: Path) -> None:
    stage, _ = await stage_of(tmp_path, SHORT)
    host = Host(stage)
    for line, value in (("/think off", "off"), ("/think 99", 99), ("/think auto", None)):
        SLASH.run(host, line)
        assert stage.session.settings.params.thinking == value
    SLASH.run(host, "/think")
    assert "auto" in host.notes[-1]
