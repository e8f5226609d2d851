"""Another reply by another model: the chat goes on with it, or goes back to its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.recall import recall
from chat_app.chat.reply import THIS_REPLY as ONCE
from chat_app.config.settings import Settings


async def retried(stage: Any, message_id: str, *, once: bool = False) -> None:
    """Another reply by the other model, and what follows from it."""
    await stage.session.branches.retry.by(message_id, stage.other_file, once=once)
    await stage.until(lambda: stage.idle() and stage.session.model.info)


async def test_the_chat_goes_on_with_the_other_model(two: Any) -> None:
    first = await two.say("why?")
    await retried(two, first.id)
    second = two.path()[-1]
    assert second.content == "You said nothing"
    assert [one.id for one in two.session.conversation.siblings(second.id)] == [first.id, second.id]
    assert (first.x["model"], second.x["model"]) == ("model.gguf", "other")
    assert "guest" not in second.x
    assert two.session.settings.model == two.other_file
    assert "The chat goes on with" in two.view.notes[-1]
    assert (await two.say("and?")).x["model"] == "other"
    assert two.engine.closed, "one model is in memory at a time"


async def test_once_the_chats_own_model_comes_back(two: Any) -> None:
    first = await two.say("why?")
    await retried(two, first.id, once=True)
    second = two.path()[-1]
    assert (second.content, second.x["model"], second.x["guest"]) == ("You said nothing", "other", ONCE)
    assert two.session.model.info.name == "model.gguf"
    third = await two.say("and?")
    assert third.x["model"] == "model.gguf"
    assert "guest" not in third.x


async def test_a_chat_that_ends_with_a_guests_reply_is_reopened_with_its_own_model(two: Any) -> None:
    own_file = Path(two.other_file).with_name("own.gguf")
    own_file.write_bytes(b"GGUF")
    two.session.load_model(own_file)
    await two.until(lambda: two.session.model.info)
    await two.say("why?")
    await retried(two, (await two.say("and?")).id, once=True)
    stored = two.store.read(two.session.chat.id)
    assert stored.path()[-1].x["guest"] == ONCE
    assert recall(stored, Settings(model="chosen now")).model == str(own_file)


async def test_what_is_typed_meanwhile_is_answered_by_the_chats_own_model(two: Any) -> None:
    first = await two.say("why?")
    work = two.session.branches.retry.by(first.id, two.other_file, once=True)
    await work
    two.session.submit("and?")
    await two.until(lambda: len(two.path()) == 4 and two.idle())
    assert [one.x.get("model") for one in two.path()] == [None, "other", None, "model.gguf"]


async def test_one_that_cannot_be_loaded_gives_way_to_the_chats_own(two: Any) -> None:
    first = await two.say("why?")
    opened = two.host._open

    def opener(source: Path, settings: Any, on_progress: Any) -> Any:
        if source.stem == "other":
            raise ValueError("It is damaged.")
        return opened(source, settings, on_progress)

    two.host._open = opener
    await retried(two, first.id)
    assert two.view.load_failures == ["It is damaged. Then model.gguf."]
    assert two.session.model.info.name == "model.gguf"
    assert two.words() == ["why?", "You said: why?"]
    assert two.session.settings.model == Settings().model
    assert (await two.say("and?")).content == "You said: and?"


async def test_what_cannot_be_is_said_and_nothing_is_loaded(two: Any) -> None:
    first = await two.say("why?")
    retry = two.session.branches.retry
    with pytest.raises(ValueError, match="neither a file nor a known model"):
        await retry.by(first.id, "nowhere", once=False)
    with pytest.raises(ValueError, match="openai:"):
        await retry.by(first.id, "openai:nowhere", once=False)
    await retried(two, first.id)
    with pytest.raises(ValueError, match="is the chat's model; /regen asks it again"):
        await retry.by(first.id, two.other_file, once=False)
    two.other.script = two.begun
    two.other.gate = two.engine.gate
    two.session.submit("and?")
    await two.until(lambda: two.session.reply and two.session.reply.tokens)
    with pytest.raises(ValueError, match="busy or not loaded"):
        await retry.by(first.id, two.other_file, once=True)
    two.session.stop()
    two.engine.gate.set()
    await two.until(two.idle)


async def test_a_model_that_is_chosen_meanwhile_is_the_one_that_is_there(two: Any) -> None:
    first = await two.say("why?")
    own = two.session.model.source
    await two.session.branches.retry.by(first.id, two.other_file, once=False)
    two.session.load_model(own)
    await two.until(lambda: two.session.model.info and two.idle())
    assert (two.session.model.source, two.session.model.info.name) == (own, "model.gguf")
    assert two.words() == ["why?", "You said: why?"]
    await retried(two, first.id)
    assert two.path()[-1].x["model"] == "other"


async def test_another_chat_meanwhile_gets_no_reply(two: Any) -> None:
    first = await two.say("why?")
    await two.session.branches.retry.by(first.id, two.other_file, once=True)
    await two.session.new_chat()
    await two.until(lambda: two.session.model.info and two.session.model.loading is None)
    await two.until(lambda: two.session.model.info and two.session.model.info.name == "model.gguf")
    assert two.path() == []


async def test_a_stopped_one_is_kept_and_the_own_model_comes_back(two: Any) -> None:
    first = await two.say("why?")

    def begun(turns: Any) -> Any:
        yield "begun"
        two.other.gate.clear()
        yield " never"

    two.other.script = begun
    await two.session.branches.retry.by(first.id, two.other_file, once=True)
    await two.until(lambda: two.session.reply and two.session.reply.content == "begun")
    two.session.stop()
    await two.until(lambda: two.session.model.info and two.session.model.info.name == "model.gguf")
    assert (two.path()[-1].content, two.path()[-1].status) == ("begun", "stopped")
