"""Work that fails is told and never ends the app; nothing typed is lost to it."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from chat_app.store.prompts import PromptHistory
from chat_app.tui.widgets.messages.view import MessageView
from chat_app.tui.work import Work

MakeApp = Callable[..., Any]


async def test_failing_work_is_told_and_the_app_goes_on(make_app: MakeApp, drive: Any) -> None:
    async def fail() -> None:
        raise RuntimeError("planted")

    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        user.chat.work.spawn(fail())
        await user.until(lambda: any("planted" in text for text in user.notices()))
        await user.say("still here")
        assert user.words()[0] == "still here"


def test_work_that_never_begins_is_closed(recwarn: pytest.WarningsRecorder) -> None:
    async def work() -> None:
        raise AssertionError("it was never to begin")

    begun = work()
    Work(lambda job: None, lambda error: None).spawn(begun)
    gc.collect()
    assert inspect.getcoroutinestate(begun) == inspect.CORO_CLOSED
    del begun
    gc.collect()
    assert not recwarn.list


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_failing_command_is_told(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    def fail(_: str) -> None:
        raise LookupError("No model is loaded.")

    async def fail_later(_: str) -> None:
        raise LookupError("No model is loaded.")

    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        line, method = ("/tokens x", "show_tokens") if asynchronous else ("/search x", "show_history")
        monkeypatch.setattr(user.chat.host, method, fail_later if asynchronous else fail)
        await user.command(line)
        await user.until(lambda: "No model is loaded." in user.notices())
        assert user.chat.prompt.text == line


async def test_a_message_without_its_parts_ends_nothing(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Textual mounts one that comes while the app ends: what it composes is left out."""
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        monkeypatch.setattr(MessageView, "compose", lambda self: iter(()))
        await user.press(*"hello", "enter")
        await user.until(lambda: len(user.views()) == 2 and not user.chat.session.generating)
        assert user.app.is_running


async def test_a_home_that_is_not_known_is_a_sentence(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command("/export ~nosuchuser/x.md")
        await user.until(lambda: any("is not known" in text for text in user.notices()))


async def test_another_chat_ends_editing(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        user.chat.begin_edit(user.chat.session.path()[0].id)
        await user.press("ctrl+n")
        await user.until(lambda: not user.words() and user.chat.composer.editing is None)
        await user.press("enter")
        await user.until(lambda: len(user.words()) == 2)
        assert user.words()[0] == "one"


async def test_a_command_that_waits_holds_up_nothing(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()

        async def wait(_: str) -> None:
            # Bounded, so that a screen which waits for it makes the test fail and not hang.
            await asyncio.wait_for(answered.wait(), 60)

        monkeypatch.setattr(user.chat.host, "show_tokens", wait)
        user.chat.prompt.set_text("/tokens x")
        await pilot.press("enter")
        user.chat.session.submit("hello")
        user.chat.prompt.set_text("/nonsense")
        await pilot.press("enter")
        await user.until(lambda: any("no command /nonsense" in text for text in user.notices()))
        answered.set()


async def test_editing_waits_for_the_reply_and_keeps_its_text(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        question = user.chat.session.path()[0].id
        user.chat.begin_edit(question)
        user.chat.prompt.set_text("one, better")
        with monkeypatch.context() as patch:
            patch.setattr(type(user.chat.session), "generating", property(lambda self: True))
            await user.press("enter")
        assert user.chat.prompt.text == "one, better"
        assert user.chat.composer.editing == question


async def test_drawing_that_fails_does_not_end_the_app(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()

        async def broken() -> None:
            raise RuntimeError("no brush")

        user.chat.work.later(broken)
        await user.until(lambda: any("no brush" in text for text in user.notices()))
        await user.say("drawn all the same")
        assert "drawn all the same" in user.screen_text()


async def test_another_wording_and_what_was_put_aside_for_it_survive_a_crash(
    make_app: MakeApp, drive: Any
) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("first")
        chat, app = user.chat.session.chat.id, pilot.app
        user.chat.prompt.insert("half a thought")
        user.chat.begin_edit(user.chat.session.path()[0].id)
        user.chat.composer.keep_draft()
        assert app.drafts.load(chat) == "", "the message's own words are no draft"
        await user.press(*" and only")
        await user.until(lambda: app.drafts.load(chat) == "first and only")
        await user.until(lambda: PromptHistory(app.store.database).prompts == ["first", "half a thought"])
        # What follows is the next start: nothing was saved in between.
        async with make_app(chat_id=chat, store=app.store).run_test() as after:
            again = drive(after)
            await again.ready()
            await again.until(lambda: again.chat.prompt.text == "first and only")
            await again.press("up")
            assert again.chat.prompt.text == "half a thought"
