"""Enter takes only what is under the eyes; a refused line stays, and joins nothing that is typed later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.events import Key

MakeApp = Callable[..., Any]


def in_one_burst(app: Any, text: str) -> None:
    """The keys of `text` and Enter, in the queue before the screen has looked at the first."""
    for one in text:
        app.chat.prompt.post_message(Key({" ": "space", "/": "slash"}.get(one, one), one))
    app.chat.prompt.post_message(Key("enter", "\r"))


async def test_enter_in_a_burst_takes_no_completion_of_less(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        asked: list[str] = []
        user.app.export_chat = asked.append
        in_one_burst(user.app, "/export some/path.md")
        await user.until(lambda: asked)
        assert asked == ["some/path.md"]


async def test_what_is_typed_after_a_refused_line_takes_its_place(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"/hlep", "enter")
        assert user.chat.prompt.text == "/hlep"
        await user.press(*"hi", "enter")
        await user.ready()
        assert user.words()[0] == "hi"
        await user.press(*"/hlep", "enter", "left", "right", *"x")
        assert user.chat.prompt.text != "x"  # an arrow keeps the line


async def test_a_letter_typed_elsewhere_takes_its_place_too(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        await user.press(*"/hlep", "enter", "alt+up", *"ab")
        assert user.chat.prompt.text == "ab"


async def test_what_comes_back_into_the_box_does_not_join_it(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"/hlep", "enter")
        user.chat.give_back("a question that was queued")
        assert user.chat.prompt.text == "a question that was queued"
        await user.press("ctrl+c", *"/hlep", "enter")
        assert user.chat.prompt.text == "/hlep"
        user.chat.composer.keep_draft()
        assert user.app.drafts.load("new") == "", "nor what is typed after the next start"
        await user.press("right")  # kept by the user: a text like any other
        user.chat.give_back("more")
        assert user.chat.prompt.text == "more\n\n/hlep"
