"""Loops in a chat: stopped, marked where they began, cut by one key, and replayed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from chat_app.chat.replay import replay_chat
from chat_app.chat.token_scores import scored_text
from chat_app.config.settings import LOOP_ROUNDS, Settings
from llama_core.sampling.params import SamplingParams
from tests.support.stage import Stage
from tests.support.thinker import computed, text_of, thinker

PARAMS = SamplingParams(temperature=0.0, loop_rounds=LOOP_ROUNDS)
TALE = b"A tale: it goes "
LOOPS = TALE + b"round and round, " * 100
THINKS_ROUND = b"<think>\nhm: " + b"round and round, " * 100


async def stage_of(home: Path, reply: bytes, params: SamplingParams = PARAMS) -> Stage:
    engine, _ = thinker(reply)
    stage = Stage(home, engine, Settings(params=params))  # type: ignore[arg-type]
    await stage.load()
    return stage


async def test_a_loop_is_stopped_and_marked_where_it_began(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, LOOPS)
    reply = await stage.say("why?")
    assert (reply.status, reply.x["stop_reason"]) == ("complete", "loop")
    loop = reply.x["loop"]
    first = len(TALE) + len(b"round and round, ")
    # The first letters of the span end the words before it, too.
    assert first - 1 <= loop["begin"] <= first
    assert loop["at"] == loop["begin"]
    assert loop["span_n"] == 17
    assert stage.on_disk()[-1].x["loop"] == loop


async def test_no_reply_is_stopped_where_the_user_said_so(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, LOOPS, replace(PARAMS, loop_rounds=0))
    reply = await stage.say("why?")
    assert (reply.x["stop_reason"], "loop" in reply.x) == ("stop", False)
    assert text_of(reply.x["ids"]) == LOOPS


async def test_the_chat_stops_loops_by_default() -> None:
    assert Settings().params.loop_rounds == LOOP_ROUNDS
    assert SamplingParams().loop_rounds == 0, "a service says what it is asked for"


async def test_cut_ends_the_reply_where_the_loop_began(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, LOOPS)
    reply = await stage.say("why?")
    cutting = asyncio.ensure_future(stage.session.branches.cut_loop(reply.id))
    await stage.until(cutting.done)
    assert cutting.result() == (reply.id, reply.x["loop"]["begin"])
    cut = stage.path()[-1]
    assert cut.id != reply.id
    assert cut.content == reply.content[: reply.x["loop"]["at"]]
    assert text_of(cut.x["ids"]).decode() == cut.content
    assert (cut.status, "loop" in cut.x) == ("stopped", False)
    kept = len(scored_text(cut))
    assert scored_text(cut) == scored_text(reply)[:kept]
    assert "".join(one.text for one in scored_text(cut)) == cut.content
    assert stage.on_disk()[-1].content == cut.content
    assert len(stage.session.conversation.siblings(cut.id)) == 2, "the whole reply stays, beside it"


async def test_another_token_there_computes_only_what_is_new(tmp_path: Path) -> None:
    engine, model = thinker(LOOPS)
    stage = Stage(tmp_path, engine, Settings(params=replace(PARAMS, max_tokens=5)))  # type: ignore[arg-type]
    await stage.load()
    stage.session.change_settings(Settings(params=PARAMS))
    reply = await stage.say("why?")
    before = computed(model)
    work = asyncio.ensure_future(stage.session.branches.reply_tokens(reply.id))
    await stage.until(work.done)
    begin = reply.x["loop"]["begin"]
    looking = asyncio.ensure_future(stage.session.branches.look_at(work.result(), begin))
    await stage.until(looking.done)
    assert computed(model) - before == 1, "the cache is cut back to there, not filled anew"
    assert bytes([looking.result().chosen.id]) == text_of(reply.x["ids"])[begin : begin + 1]


async def test_a_reply_that_did_not_loop_is_not_cut(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, b"yes")
    reply = await stage.say("why?")
    assert await stage.session.branches.cut_loop(reply.id) is None
    assert "not seen to repeat itself" in stage.view.notes[-1]
    assert stage.path()[-1].id == reply.id


async def test_a_loop_in_a_thought_is_cut_in_the_thought(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, THINKS_ROUND)
    reply = await stage.say("why?")
    assert reply.x["loop"]["at"] == -1
    cutting = asyncio.ensure_future(stage.session.branches.cut_loop(reply.id))
    await stage.until(cutting.done)
    cut = stage.path()[-1]
    assert cut.content == ""
    assert cut.x["thought"].strip(", r") == "hm: round and round"


async def test_a_reply_that_looped_replays(tmp_path: Path) -> None:
    stage = await stage_of(tmp_path, LOOPS)
    await stage.say("why?")
    engine, _ = thinker(LOOPS)
    assert [one.outcome for one in replay_chat(engine, stage.session.conversation)] == ["same"]
