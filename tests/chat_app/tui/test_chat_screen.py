"""The chat as a user drives it, by keys, with a fake engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.widgets.messages.view import MessageView
from tests.support.fake_engine import FakeEngine, factory_of

MakeApp = Callable[..., Any]


async def test_a_question_is_answered(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("hello there")
        assert user.words() == ["hello there", "You said: hello there"]
        text = user.screen_text()
        assert "You said: hello there" in text
        assert "4 tokens · 250 tok/s" in text


async def test_what_replies_are_held_to_is_in_the_title(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        title = pilot.app.chat.query_one("#title-bar")
        assert " schema " not in str(title.content)
        pilot.app.chat.run_command("/schema json")
        await user.until(lambda: " schema " in str(title.content))
        pilot.app.chat.run_command("/schema none")
        await user.until(lambda: " schema " not in str(title.content))


async def test_typing_before_the_model_is_ready_queues(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    async with make_app(factory=factory_of(engine, load_s=0.3)).run_test() as pilot:
        user = drive(pilot)
        await user.press(*"hi", "enter")
        await user.until(lambda: "Queued" in user.screen_text() or user.words())
        await user.until(lambda: len(user.words()) == 2)  # the reply is there, and empty, from its beginning
        await user.ready()
        assert user.words() == ["hi", "You said: hi"]


async def test_enter_in_a_burst_keeps_its_place(make_app: MakeApp, drive: Any) -> None:
    """A terminal may deliver text, Enter and more text in one read; nothing may overtake."""
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await pilot.press(*"ab", "enter", *"cd")
        await user.until(lambda: len(user.words()) == 2)
        assert user.words()[0] == "ab"
        assert user.chat.prompt.text == "cd"


async def test_newlines_and_blocks(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"one", "shift+enter", *"two", "ctrl+j", *"three")
        assert user.chat.prompt.text == "one\ntwo\nthree"
        user.chat.prompt.set_text('"""')
        await user.press("enter", *"x", "enter", *"y", "enter")
        assert user.words() == []
        await user.press(*'"""', "enter")
        await user.until(lambda: user.words())
        assert user.words()[0] == "x\ny"


async def test_escape_stops_and_keeps(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    engine.script = lambda turns: ["word "] * 100_000
    engine.delay_s = 0.001
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"go", "enter")
        await user.until(lambda: "word word" in user.screen_text())
        await user.press("escape")
        await user.ready()
        reply = user.chat.session.path()[-1]
        assert reply.status == "stopped"
        assert reply.content.startswith("word word")
        assert "stopped" in user.screen_text()
        assert user.views()[-1]._text.source == reply.content


async def test_ctrl_c_stops_then_quits_on_the_second_press(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.gate.clear()
    app = make_app()
    async with app.run_test() as pilot:
        user = drive(pilot)
        await user.until(lambda: user.chat.session.model.info)
        await user.press(*"go", "enter")
        await user.until(lambda: user.chat.session.reply)
        await user.press("ctrl+c")
        await user.ready()
        assert user.chat.session.path()[-1].status == "stopped"
        await user.press(*"typed", "ctrl+c")
        assert user.chat.prompt.text == ""
        await user.press("up")
        assert user.chat.prompt.text == "typed"  # it can be had again
        await user.press("ctrl+c", "ctrl+c")
        assert app.is_running
        assert any("again" in note for note in user.notices())
        await pilot.press("ctrl+c")
        await user.until(lambda: not app.is_running)
    engine.gate.set()


async def test_ctrl_d_leaves_only_from_an_empty_prompt(make_app: MakeApp, drive: Any) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        user = drive(pilot)
        await user.press(*"ab", "left", "ctrl+d")
        assert user.chat.prompt.text == "a"
        await user.press("backspace")
        await pilot.press("ctrl+d")
        await user.until(lambda: not app.is_running)


async def test_reset_is_visible(make_app: MakeApp, drive: Any) -> None:
    async with make_app(panel="lab").run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one two three")
        assert " 0 of 2,048" not in user.screen_text()
        await user.press("ctrl+l")
        await user.until(lambda: " 0 of 2,048" in user.screen_text())
        await user.say("four")
        assert user.chat.session.path()[-1].x["timings"]["cache_n"] == 0
        assert user.words()[:2] == ["one two three", "You said: one two three"]


async def test_prompts_are_recalled(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("first prompt")
        await user.say("second prompt")
        await user.press(*"draft", "up")
        assert user.chat.prompt.text == "second prompt"
        await user.press("up")
        assert user.chat.prompt.text == "first prompt"
        await user.press("down", "down")
        assert user.chat.prompt.text == "draft"


async def test_a_message_is_selected_and_regenerated(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("question")
        engine.script = lambda turns: "another answer"
        await user.press("alt+up")
        assert isinstance(user.chat.focused, MessageView)
        assert "Alt+R Regen" in user.screen_text()
        await user.press("alt+r")
        await user.until(lambda: user.words()[-1] == "another answer")
        await user.until(lambda: "2/2" in user.screen_text())
        await user.press("alt+up", "left")
        await user.until(lambda: "You said: question" in user.screen_text())
        assert "1/2" in user.screen_text()


async def test_editing_makes_a_branch(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("old words")
        await user.press("alt+up", "alt+up", "alt+e")
        await user.until(lambda: user.chat.prompt.text == "old words")
        user.chat.prompt.set_text("new words")
        await user.press("enter")
        await user.until(lambda: user.words() == ["new words", "You said: new words"])
        await user.ready()
        assert [view.message.content for view in user.views()] == user.words()


async def test_copy_says_what_happened(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.tui.clipboard.native_command", lambda: None)
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command("/copy")
        assert "no reply yet" in user.notices()[-1]
        user.chat.prompt.clear()
        await user.say("x")
        await user.press("alt+up", "alt+y")
        await user.until(lambda: user.app.clipboard == "You said: x")
        await user.until(lambda: "if the terminal allows it" in user.notices()[-1])
        await user.press("escape")
        await user.command("/copy code")
        assert "no block of code" in user.notices()[-1]


async def test_unknown_commands_name_the_nearest(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.command("/hlep")
        assert "/help" in user.notices()[-1]
        assert user.chat.prompt.text == "/hlep"
        await user.command("/usr/bin/env is a path")
        await user.until(lambda: user.words() or user.chat.session.queue)


async def test_commands_change_settings(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command("/set parameter temperature 0")
        assert user.chat.session.settings.params.temperature == 0
        await user.command("/set parameter temprature 1")
        assert "temperature" in user.notices()[-1]
        await user.command("/system Be brief.")
        await user.say("hi")
        assert engine.calls[-1][1][0] == {"role": "system", "content": "Be brief."}
        await user.command("/show parameters")
        await user.until(lambda: "temperature" in user.screen_text())
        await user.press("escape")
        await user.command("/new")
        await user.until(lambda: user.words() == [])


async def test_the_last_twenty_messages_are_mounted(make_app: MakeApp, drive: Any) -> None:
    app = make_app()
    transcript = app.store.create(model="m")
    for number in range(50):
        transcript.append(
            transcript.conversation.add("user" if number % 2 == 0 else "assistant", f"n{number}")
        )
    transcript.close()
    app.first_chat = transcript.id
    async with app.run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.until(lambda: len(user.views()) == 20)
        assert user.views()[0].message.content == "n30"
        user.chat.messages.scroll_home(animate=False)  # its arrival there loads; a key there would load more
        await user.until(lambda: len(user.views()) == 40)
        assert user.views()[0].message.content == "n10"
        await user.ready()
        await user.press("ctrl+end")
        await user.say("more")
        assert user.words()[-1] == "You said: more"


async def test_reading_back_is_not_disturbed(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    def long(turns: Any) -> Any:
        yield "\n\n".join(f"paragraph {n}" for n in range(60))
        engine.gate.clear()
        yield "\n\nthe newest words"

    engine.script = long
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"go", "enter")
        await user.until(lambda: "paragraph 59" in user.screen_text())
        await user.press("pageup", "pageup")
        place = user.chat.messages.scroll_y
        assert "paragraph 59" not in user.screen_text()
        engine.gate.set()
        await user.until(lambda: "new text below" in user.screen_text())
        await user.ready()
        assert user.chat.messages.scroll_y == place
        await user.press("ctrl+end")
        await user.until(lambda: "the newest words" in user.screen_text())
        assert "new text below" not in user.screen_text()
