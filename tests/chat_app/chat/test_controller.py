"""The session's logic with a fake engine and a screen that only takes notes."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.conversation import Message
from chat_app.chat.reply import GrowingReply
from chat_app.config.settings import Settings
from chat_app.store.database import StoreError
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage


async def test_a_reply_is_on_the_screen_and_on_disk(stage: Stage) -> None:
    reply = await stage.say("hello there")
    assert stage.words() == ["hello there", "You said: hello there"]
    assert stage.view.texts[reply.id] == reply.content
    saved = stage.on_disk()
    assert [one.content for one in saved] == stage.words()
    assert saved[1].status == "complete"
    assert saved[1].x["stop_reason"] == "stop"
    assert saved[1].x["timings"]["predicted_n"] == len(saved[1].x["ids"]) == 4
    assert saved[1].x["seed"] == 7
    assert stage.session.conversation.title == "hello there"


async def test_sent_means_on_disk(stage: Stage) -> None:
    """When the view is told of the user's message, the file already holds it."""
    seen: list[list[str]] = []
    plain = stage.view.show_message

    def check(message: Message) -> None:
        if message.role == "user":
            seen.append([one.content for one in stage.on_disk()])
        plain(message)

    stage.view.show_message = check  # type: ignore[method-assign]
    await stage.say("first")
    assert seen == [["first"]]


async def test_a_prompt_waits_for_the_model(tmp_path: Path, engine: FakeEngine) -> None:
    stage = Stage(tmp_path, engine, Settings())
    stage.session.submit("too early")
    assert stage.view.queue == ["too early"]
    await stage.load()
    await stage.until(lambda: len(stage.path()) == 2 and stage.idle())
    assert stage.words() == ["too early", "You said: too early"]
    assert stage.view.queue == []
    stage.host.close(20)


async def test_prompts_queue_while_a_reply_is_written(stage: Stage) -> None:
    stage.engine.gate.clear()
    for text in ("one", "two", "three"):
        stage.session.submit(text)
    assert stage.view.queue == ["two", "three"]
    stage.engine.gate.set()
    await stage.until(lambda: len(stage.path()) == 6 and stage.idle())
    assert stage.words()[::2] == ["one", "two", "three"]


async def test_the_queue_can_be_taken_back(stage: Stage) -> None:
    stage.engine.gate.clear()
    for text in ("one", "two", "three"):
        stage.session.submit(text)
    stage.session.take_back_queue()
    assert stage.view.returned == ["two\n\nthree"]
    stage.engine.gate.set()
    await stage.until(stage.idle)
    assert len(stage.path()) == 2


async def test_stopping_keeps_the_partial_reply(stage: Stage) -> None:
    stage.engine.script = lambda turns: ["word "] * 100_000
    stage.engine.delay_s = 0.001
    stage.session.submit("go on")
    await stage.until(lambda: any(len(text) > 100 for text in stage.view.texts.values()))
    assert stage.session.stop()
    await stage.until(stage.idle)
    reply = stage.path()[-1]
    assert reply.status == "stopped"
    assert len(reply.content) > 100
    assert stage.on_disk()[-1].content == reply.content == stage.view.texts[reply.id]
    assert not stage.session.stop()


async def test_the_partial_reply_is_saved_each_second(stage: Stage) -> None:
    stage.engine.script = stage.begun
    stage.session.submit("go")
    await stage.until(lambda: stage.view.texts)
    assert stage.on_disk()[-1].role == "user"
    stage.clock.advance(1.1)
    await stage.until(lambda: stage.on_disk()[-1].role == "assistant")
    saved = stage.on_disk()[-1]
    assert saved.status == "partial"
    assert saved.content.startswith("begun")


async def test_a_failure_is_marked_and_the_next_prompt_works(stage: Stage) -> None:
    stage.engine.script = lambda turns: ["some ", "words", RuntimeError("boom [b]")]
    reply = await stage.say("try")
    assert (reply.status, reply.content) == ("failed", "some words")
    assert "boom" in stage.on_disk()[-1].x["error"]
    stage.engine.script = lambda turns: f"{len(turns)} turns"
    assert (await stage.say("again")).content == "1 turns"  # the failed reply is not sent; the users' join


async def test_nothing_else_begins_while_a_reply_is_written(stage: Stage) -> None:
    reply = await stage.say("first")
    stage.engine.gate.clear()
    stage.session.submit("second")
    await stage.session.branches.regenerate(reply.id)
    stage.session.branches.branch(reply.id)
    assert any("stop it first" in note for note in stage.view.notes)
    stage.engine.gate.set()
    await stage.until(stage.idle)
    assert len(stage.session.conversation) == 4


async def test_reset_makes_the_next_prompt_whole_again(stage: Stage) -> None:
    await stage.say("one")
    reply = await stage.say("two")
    assert reply.x["timings"]["cache_n"] > 0
    stage.session.reset_cache()
    await stage.until(lambda: any("cache" in note for note in stage.view.notes))
    assert stage.session.metrics.snapshot().context_n == 0
    reply = await stage.say("three")
    assert reply.x["timings"]["cache_n"] == 0
    assert reply.x["timings"]["prompt_n"] > 10


async def test_overflow_is_asked_before_anything_is_sent(stage: Stage) -> None:
    await stage.say("one two three")
    await stage.say("four five six")
    stage.engine.ctx_size = 40
    stage.view.agree = False
    stage.session.submit("seven eight nine ten")
    await stage.until(stage.idle)
    assert stage.view.overflows[0].drop
    assert stage.view.returned == ["seven eight nine ten"]
    assert len(stage.path()) == 4
    stage.view.agree = True
    stage.session.submit("seven eight nine ten")
    await stage.until(lambda: len(stage.path()) == 6 and stage.idle())
    assert {"role": "user", "content": "one two three"} not in stage.engine.calls[-1][1]
    assert any("left out" in note for note in stage.view.notes)


async def test_a_chat_is_listed_with_the_model_that_it_is_held_with(stage: Stage) -> None:
    stage.session.settings = replace(stage.session.settings, model="first.gguf")
    await stage.session.new_chat()
    stage.session.settings = replace(stage.session.settings, model="/models/second.gguf")
    await stage.say("hello")
    assert [chat.model for chat in stage.store.list()] == ["second.gguf"]
    assert stage.store.read(stage.session.chat.id).path()[-1].content


async def test_a_message_that_never_fits_comes_back(stage: Stage) -> None:
    stage.engine.ctx_size = 20
    stage.session.submit("word " * 50)
    await stage.until(stage.idle)
    assert stage.view.returned == ["word " * 50]
    assert stage.path() == []


async def test_a_failing_disk_shows_a_banner_and_retry_works(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = stage.session.chat
    real, broken = type(chat).append, [True]

    def append(self: Any, message: Message) -> None:
        if broken[0]:
            self.conversation.update(message)
            self._unsaved[message.id] = message
            raise StoreError("The message is not saved: no space left on device.")
        real(self, message)

    monkeypatch.setattr(type(chat), "append", append)
    await stage.say("hello")
    assert "no space" in str(stage.view.trouble[-1])
    assert stage.words() == ["hello", "You said: hello"]
    broken[0] = False
    assert await stage.session.saver.retry()
    assert stage.view.trouble[-1] is None
    assert [one.content for one in stage.on_disk()] == stage.words()


async def test_leaving_for_another_chat_keeps_the_partial_reply(stage: Stage) -> None:
    old = stage.session.chat.id
    stage.engine.script = stage.begun
    stage.session.submit("go")
    await stage.until(lambda: stage.view.texts)
    await stage.session.new_chat()
    assert stage.path() == []
    assert stage.store.read(old).path()[-1].content == "begun"
    assert stage.store.read(old).path()[-1].status == "stopped"
    stage.engine.gate.set()
    await stage.session.open_chat(old)
    assert stage.words() == ["go", "begun"]


async def test_save_now_keeps_what_is_written(stage: Stage) -> None:
    stage.engine.script = stage.begun
    stage.session.submit("go")
    await stage.until(lambda: stage.view.texts)
    stage.session.save_now()
    saved = stage.store.read(stage.session.chat.id).path()[-1]
    assert (saved.content, saved.status) == ("begun", "stopped")
    # What the engine would have told at the end is known without it, so that the reply can be drawn again.
    assert saved.x["stop_reason"] == "cancelled"
    assert saved.x["seed"] == stage.engine.params[-1].seed
    assert saved.x["timings"]["predicted_n"] == len(saved.x["ids"]) == 1
    assert saved.x["timings"]["ttft_ms"] == pytest.approx(stage.engine.step_s * 1e3, rel=0.5)


async def test_figures_of_a_cut_reply_are_those_that_the_engine_tells(stage: Stage) -> None:
    reply = await stage.say("one two three")
    grown = GrowingReply(1, replace(reply, content="", x={}), {}, seed=7)
    for event in stage.view.events:
        grown.take(event)
    told = grown.ended().x
    grown.finished = None
    assert grown.stopped().x["timings"] == told["timings"]
    assert {**grown.stopped().x, "stop_reason": "stop"} == told


async def test_a_reply_that_goes_on_forgets_why_it_had_stopped(stage: Stage) -> None:
    stage.engine.script = lambda turns: "begun"
    reply = await stage.say("go")
    stage.engine.script = stage.begun
    await stage.session.branches.continue_reply(reply.id)
    await stage.until(lambda: stage.session.reply is not None and stage.session.reply.tokens)
    stage.clock.advance(5)
    await stage.until(lambda: stage.on_disk()[-1].status == "partial")
    saved = stage.on_disk()[-1].x
    assert saved.get("stop_reason") is None
    assert saved["timings"]["predicted_n"] == 2


async def test_without_saving_nothing_is_written(tmp_path: Path, engine: FakeEngine) -> None:
    stage = Stage(tmp_path, engine, Settings(save=False))
    await stage.load()
    await stage.say("secret")
    stage.session.save_now()
    assert not (tmp_path / "chats").exists()
    await asyncio.to_thread(stage.host.close, 20)


async def test_a_base_model_continues_plain_text(tmp_path: Path) -> None:
    engine = FakeEngine(template=None, script=lambda turns: " there was a llama.")
    stage = Stage(tmp_path, engine, Settings())
    await stage.load()
    assert stage.session.model.info is not None
    assert not stage.session.model.info.has_template
    await stage.say("Once upon a time")
    await stage.say("It lived")
    assert engine.calls[-1] == (
        "chat",
        [{"role": "user", "content": "Once upon a time there was a llama.\nIt lived"}],
    )
    await asyncio.to_thread(stage.host.close, 20)


async def test_a_chat_left_while_the_prompt_is_prepared_is_not_written_to(stage: Stage) -> None:
    held = threading.Event()
    stage.host.ask(lambda engine: held.wait(20))
    stage.session.submit("late")
    await asyncio.sleep(0)
    await stage.session.new_chat()
    held.set()
    await stage.until(stage.idle)
    assert stage.path() == []
    assert stage.view.returned == ["late"]
