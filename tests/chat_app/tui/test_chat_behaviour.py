"""What a user meets between two replies: hints, stopping early, branches, parameters, no model."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]


async def test_the_hint_goes_when_the_end_is_in_sight_again(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        hint = user.chat.query_one("#new-text")
        user.chat.messages.release_anchor()
        user.chat.show_new_text(True)
        await user.press("ctrl+n")
        await user.until(lambda: not hint.display)


async def test_stop_while_a_prompt_is_prepared(stage: Any) -> None:
    session = stage.session
    slow, prepare = threading.Event(), stage.engine.prepare

    def prepare_slowly(request: Any) -> Any:
        slow.wait(20)
        return prepare(request)

    stage.engine.prepare = prepare_slowly
    session.submit("too early")
    assert session.generating
    session.submit("queued")
    assert session.stop()
    slow.set()
    await stage.until(stage.idle)
    assert stage.words() == []
    assert stage.view.returned == ["too early\n\nqueued"]
    assert not session.stop()


async def test_unset_parameters_are_listed(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 60)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command("/set system")
        assert "removed" in user.notices()[-1]
        await user.command("/show parameters")
        await user.until(lambda: re.search(r"num_predict +default", user.screen_text()))
        assert re.search(r"seed +default", user.screen_text())


async def test_a_continued_reply_counts_all_its_tokens(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("hello there")
        reply = user.chat.session.path()[-1]
        user.chat.session.conversation.update(replace(reply, status="stopped"))
        engine.gate.clear()
        await user.command("/continue")
        await user.until(lambda: user.views()[-1].growing)
        await pilot.pause()
        assert "4 tokens" not in user.screen_text()
        engine.gate.set()
        await user.ready()
        n = user.chat.session.path()[-1].x["timings"]["predicted_n"]
        assert n > 4
        await user.until(lambda: f"{n} tokens" in user.screen_text())


async def test_a_regenerated_reply_has_the_models_name_at_once(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("hello there")
        engine.gate.clear()
        await user.command("/regen")
        await user.until(lambda: user.chat.session.reply is not None)
        await user.until(lambda: "tiny-llama" in user.views()[-1]._head().plain)
        engine.gate.set()
        await user.ready()


async def test_there_is_a_way_back_from_a_branch(stage: Any) -> None:
    await stage.say("one")
    await stage.say("two")
    everything = stage.words()
    reply = stage.path()[1]
    stage.session.branches.branch(reply.id)
    assert stage.words() == everything[:2]
    assert "→ on the message" in stage.view.notes[-1]
    shown = stage.session.branches.switch_branch(reply.id, 1)
    assert stage.words() == everything
    assert shown == stage.path()[2].id


async def test_the_chosen_sibling_stays_in_view(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    engine.script = lambda turns: "\n\n".join(["line"] * 80)
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        await user.command("/regen")
        await user.until(lambda: len(user.chat.session.conversation) == 3)
        await user.ready()
        user.views()[-1].focus()
        await user.press("left")
        await user.until(lambda: "1/2" in user.screen_text())
        await pilot.pause(0.2)
        assert "1/2" in user.screen_text()


async def test_a_new_chat_begins_with_an_empty_context(stage: Any) -> None:
    await stage.say("one")
    await stage.say("two")
    await stage.until(lambda: stage.session.metrics.snapshot().cached_n)
    await stage.session.new_chat()
    shot = stage.session.metrics.snapshot()
    assert (shot.context_n, shot.cached_n) == (0, 0)
    assert shot.kv_bytes


async def test_a_prompt_without_a_model_is_answered_with_a_note(make_app: MakeApp, drive: Any) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no such thing")

    async with make_app(factory=broken).run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.until(lambda: any("no such thing" in one for one in user.notices()))
        await user.press(*"hi", "enter")
        await user.until(lambda: any("/model fetches" in one for one in user.notices()))


async def test_a_picture_is_of_the_screen_without_the_command(
    make_app: MakeApp, drive: Any, tmp_path: Path
) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("hello")
        picture, heights = tmp_path / "chat.svg", []
        draw, completions = pilot.app.export_screenshot, user.chat.query_one("#completions")

        def drawn(**options: Any) -> str:
            heights.append(completions.region.height)
            return draw(**options)

        pilot.app.export_screenshot = drawn
        user.chat.prompt.set_text(f"/export {picture}")
        await user.until(lambda: "Write the chat" in user.screen_text())
        await user.press("enter")
        await user.until(lambda: picture.exists() and picture.read_text().endswith("</svg>\n"))
        text = picture.read_text().replace("&#160;", " ")
        assert "You said: hello" in text
        assert "/export" not in text
        assert heights == [0], "nor is a row left for its completions"
