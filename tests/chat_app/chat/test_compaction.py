"""A full context: older turns left out, summarised, or a larger context; the system prompt always stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.conversation import Message
from chat_app.chat.summary import HEADING, REQUEST
from chat_app.config.settings import Settings
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage

SYSTEM = "Be brief."


def answers(turns: Any) -> str:
    """A summary where one is asked for, else a few words."""
    return "they spoke of pears" if REQUEST in turns[-1]["content"] else "yes " * 12


async def full(home: Path, ctx_size: int = 120, exchanges: int = 4, **info: Any) -> Stage:
    """A chat that has just room for what was said."""
    engine = FakeEngine(script=answers, ctx_size=ctx_size)
    stage = Stage(home, engine, Settings(system=SYSTEM))
    await stage.load()
    for n in range(exchanges):
        await stage.say(f"question {n} about pears")
    return stage


def roles(path: list[Message]) -> str:
    return "".join(one.role[0] for one in path)


async def test_a_summary_stands_for_the_older_turns_and_the_prompt_is_sent(tmp_path: Path) -> None:
    stage = await full(tmp_path)
    before = [one.id for one in stage.path()]
    stage.view.room = "compact"
    stage.view.edit = lambda text: text + ", and plums"
    reply = await stage.say("and another long question " + "please " * 30)
    assert stage.view.summaries == ["they spoke of pears"]
    path = stage.path()
    assert path[0].content == f"{HEADING}\n\nthey spoke of pears, and plums"
    assert path[0].x["summary_of"][0] == before[0]
    assert path[-1] == reply
    assert path[-2].content.startswith("and another")
    assert not set(before) & {one.id for one in path}
    _, sent = [call for call in stage.engine.calls if call[0] == "chat"][-1]
    assert sent[0] == {"role": "system", "content": SYSTEM}, "never dropped"
    assert sent[1]["content"].startswith(HEADING)
    assert [one.id for one in stage.session.conversation.path(before[-1])] == before, (
        "the branch before stays"
    )
    assert [one.content for one in stage.on_disk()] == [one.content for one in path]
    assert len(stage.session.conversation.siblings(path[0].id)) == 2


async def test_the_summary_is_asked_for_with_the_system_prompt_and_the_turns(tmp_path: Path) -> None:
    stage = await full(tmp_path, ctx_size=4000)
    await stage.session.compact()
    asked = next(turns for kind, turns in stage.engine.calls if REQUEST in str(turns))
    assert asked[0] == {"role": "system", "content": SYSTEM}
    assert asked[1]["content"] == "question 0 about pears"
    assert roles(stage.path()) == "uuaua", "two exchanges stay as they were"
    assert stage.words()[1] == "question 2 about pears"
    reply = await stage.say("go on")
    _, sent = [call for call in stage.engine.calls if call[0] == "chat"][-1]
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert reply.content


async def test_a_conversation_beyond_the_context_is_summarised_in_pieces(tmp_path: Path) -> None:
    stage = await full(tmp_path, ctx_size=4000, exchanges=6)
    stage.engine.ctx_size = 130
    await stage.session.compact()
    asked = [turns for kind, turns in stage.engine.calls if REQUEST in str(turns[-1:])]
    assert len(asked) > 1
    assert all(turns[0] == {"role": "system", "content": SYSTEM} for turns in asked)
    assert asked[1][1]["content"].startswith(f"{HEADING}\n\nthey spoke of pears")
    assert stage.words()[0].endswith("they spoke of pears")


async def test_a_summary_that_is_not_wanted_changes_nothing(tmp_path: Path) -> None:
    stage = await full(tmp_path, ctx_size=4000)
    before = stage.words()
    stage.view.agree = False
    await stage.session.compact()
    assert stage.words() == before
    assert len(stage.session.conversation) == len(before)
    assert not stage.session.generating


async def test_a_refused_summary_gives_the_prompt_back(tmp_path: Path) -> None:
    stage = await full(tmp_path)
    before = stage.words()
    stage.view.room = "compact"
    stage.view.edit = lambda text: ""
    stage.session.submit("long " * 60)
    await stage.until(lambda: stage.view.returned)
    assert stage.view.returned == ["long " * 60]
    assert stage.words() == before


async def test_a_short_chat_is_not_summarised(tmp_path: Path) -> None:
    stage = await full(tmp_path, ctx_size=4000, exchanges=0)
    await stage.session.compact()
    assert "too few" in stage.view.notes[-1]
    assert not stage.session.generating


async def test_an_error_in_the_summary_is_shown_and_the_chat_goes_on(tmp_path: Path) -> None:
    stage = await full(tmp_path, ctx_size=4000)
    stage.engine.script = lambda turns: [RuntimeError("the model is tired")]
    await stage.session.compact()
    assert "tired" in stage.view.summaries[-1] or "unexpected" in stage.view.summaries[-1].lower()
    stage.engine.script = answers
    assert (await stage.say("hello")).content.startswith("yes")


async def test_more_context_loads_the_model_anew_and_sends_the_prompt(tmp_path: Path) -> None:
    stage = await full(tmp_path)
    stage.engine.max_ctx_size = 1000
    await stage.load()
    stage.view.room = "raise"
    words = len(stage.words())
    stage.session.submit("long " * 60)
    await stage.until(lambda: stage.session.settings.ctx_size is not None)
    assert stage.view.larger == stage.session.settings.ctx_size
    assert stage.view.larger in (240, 480)
    stage.engine.ctx_size = stage.view.larger
    await stage.until(lambda: len(stage.words()) == words + 2 and stage.idle())
    assert stage.words()[-2] == "long " * 60


@pytest.mark.parametrize("max_ctx_size", [0, 120, 150])
async def test_more_context_is_not_offered_where_the_model_has_none(
    tmp_path: Path, max_ctx_size: int
) -> None:
    stage = await full(tmp_path)
    stage.engine.max_ctx_size = max_ctx_size
    await stage.load()
    stage.view.agree = False
    stage.session.submit("long " * 60)
    await stage.until(lambda: stage.view.returned)
    assert stage.view.larger == 0


async def test_dropping_the_oldest_keeps_the_system_prompt(tmp_path: Path) -> None:
    stage = await full(tmp_path)
    await stage.say("long " * 40)
    _, sent = [call for call in stage.engine.calls if call[0] == "chat"][-1]
    assert sent[0] == {"role": "system", "content": SYSTEM}
    assert "left out" in stage.view.notes[-1]


async def test_a_raw_prompt_says_that_it_has_no_system_prompt(tmp_path: Path) -> None:
    stage = await full(tmp_path, exchanges=0)
    stage.session.submit("hello", raw=True)
    await stage.until(lambda: len(stage.path()) == 2 and stage.idle())
    assert any("system prompt is no part" in one for one in stage.view.notes)
