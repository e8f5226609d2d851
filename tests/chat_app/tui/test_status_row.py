"""Short news have a row of their own: no word of the chat is ever under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.widgets.status import StatusRow

MakeApp = Callable[..., Any]


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 40)])
async def test_a_note_covers_nothing(make_app: MakeApp, drive: Any, size: tuple[int, int]) -> None:
    async with make_app().run_test(size=size) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one two three")
        user.chat.note("A note that is said. " * 4, "warning")
        await user.until(lambda: user.chat.status.region.height > 0)
        shown = user.screen_text()
        assert "You said: one two three" in shown
        assert "! A note" in shown
        regions = [widget.region for widget in (user.chat.messages, user.chat.status, user.chat.composer)]
        assert regions[0].bottom <= regions[1].y < regions[1].bottom <= regions[2].y
        user.app.news.clear()
        await user.until(lambda: user.chat.status.region.height == 0)


async def test_a_note_goes_when_there_was_time_to_read_it(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.tui.news.MIN_NOTE_S", 0.1)
    monkeypatch.setattr("chat_app.tui.news.READ_PER_S", 100)
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        user.chat.note("x" * 5)
        user.chat.note("[b]the next[/b] one")
        await user.until(lambda: "[b]the next[/b] one" in user.screen_text())
        await user.until(lambda: not user.chat.status.display)


async def test_a_note_without_room_says_that_there_is_more(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(60, 20)) as pilot:
        user = drive(pilot)
        await user.ready()
        for word, times in (("long", 100), ("short", 20), ("words", 60)):
            user.chat.note(" ".join([word] * times))
            await user.until(lambda word=word: word in user.screen_text())
            fits = times == 20
            assert ("…" not in str(user.chat.status.content)) is fits
        shown = user.chat.status.region
        assert shown.height == 4
        assert "words…" in user.screen_text().splitlines()[shown.bottom - 1]
        await pilot.resize_terminal(140, 40)
        await user.until(lambda: "…" not in str(user.chat.status.content))


@pytest.mark.parametrize("size", [(60, 20), (140, 40)])
async def test_over_a_dialog_a_note_covers_nothing(
    make_app: MakeApp, drive: Any, size: tuple[int, int]
) -> None:
    async with make_app().run_test(size=size) as pilot:
        user = drive(pilot)
        await user.ready()
        for key in ("f1", "f2", "ctrl+r"):
            user.app.news.clear()
            await user.press(key)
            await user.until(lambda: user.app.screen.query(StatusRow) and user.app.screen is not user.chat)
            dialog = user.app.screen
            user.chat.note("said by the chat")
            await user.until(lambda: "said by the chat" in user.screen_text().splitlines()[-1])
            dialog.notify("said by [b]the[/b] dialog", severity="warning")  # as Textual's own widgets do
            await user.until(lambda: "! said by the dialog" in user.screen_text().splitlines()[-1])
            assert "said by the chat" not in user.screen_text()
            assert not user.app._notifications
            box, row = dialog.children[0].region, dialog.query_one(StatusRow).region
            assert box.bottom <= row.y < row.bottom == size[1]
            await user.press("escape")
            await user.until(lambda: user.chat.is_active)
            await user.until(lambda: "! said by the dialog" in user.screen_text())  # it is not read yet
            assert user.chat.status.region.height == 1
        await user.press("f1")
        await user.until(lambda: "said by the dialog" in user.screen_text().splitlines()[-1])


async def test_ctrl_c_closes_the_palette_and_nothing_else(make_app: MakeApp, drive: Any, engine: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        engine.gate.clear()
        user.chat.prompt.insert("question")
        await user.press("enter", *"half", "ctrl+p")
        await user.until(lambda: user.app.screen is not user.chat)
        await user.press("ctrl+c")
        await user.until(lambda: user.chat.is_active)
        assert user.chat.session.generating
        assert user.chat.prompt.text == "half"
        await user.press("ctrl+c")
        await user.until(lambda: not user.chat.session.generating)
        assert user.chat.prompt.text == "half"
        await user.press("ctrl+c")
        assert user.chat.prompt.text == ""
        engine.gate.set()


async def test_under_a_dialog_no_key_is_shown_and_ctrl_c_closes_it(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        assert "^R" in user.screen_text().splitlines()[-1]
        await user.press(*"half", "f1")
        await user.until(lambda: user.app.screen is not user.chat)
        await user.until(lambda: "^R" not in user.screen_text().splitlines()[-1])
        await user.press("ctrl+c")
        await user.until(lambda: user.app.screen is user.chat)
        await user.until(lambda: "^R" in user.screen_text().splitlines()[-1])
        assert user.chat.prompt.text == "half"  # what was not in sight is as it was
