"""Keys for now and then: when a message was written, and from one block of code to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from chat_app.text.formatting import clock_time
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]


def test_a_moment_as_people_say_it() -> None:
    now = datetime(2026, 11, 29, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert clock_time("2026-11-28T22:03:59.25Z", now) == "00:03"
    assert clock_time("2026-11-28T21:03:00Z", now) == "2026-11-28 23:03"
    assert clock_time("yesterday", now) == ""


async def test_times_are_shown_on_demand(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        now = datetime.now(UTC).astimezone()

        def heads() -> Counter[str]:
            """Each message's, and how often it stands there: a minute may begin between two."""
            names = {"user": "You", "assistant": "tiny-llama"}
            path = user.chat.session.path()
            return Counter(f"{names[one.role]}  {clock_time(one.time, now)}" for one in path)

        def shown() -> bool:
            return all(user.screen_text().count(head) == n for head, n in heads().items())

        await user.ready()
        await user.say("hello")
        assert not any(head in user.screen_text() for head in heads())
        await user.press("alt+d")
        await user.until(shown)
        await user.say("again")
        await user.until(shown)
        await user.press("alt+d")
        await user.until(lambda: not any(head in user.screen_text() for head in heads()))


async def test_from_one_block_of_code_to_the_next(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    blocks = [f"```\ncode {n}\n```\n\n" + "more words\n\n" * 12 for n in range(3)]
    text = "\n\n".join(["words\n" * 9, *blocks])
    engine.script = lambda turns: text
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("alt+pagedown")
        assert "There is no code below." in user.notices()
        await user.say("write")

        def first() -> str:
            """The first line of code in sight, right below its title in the first line of the list."""
            return user.screen_text().splitlines()[2 + user.chat.messages.content_region.y - 1].strip()

        for n in (2, 1, 0):
            await user.press("alt+pageup")
            await user.until(lambda n=n: first().startswith(f"code {n}"))
        await user.press("alt+pageup")
        assert "There is no code above." in user.notices()
        await user.press("alt+pagedown")
        await user.until(lambda: first().startswith("code 1"))
        assert not user.chat.messages.following


async def test_the_footer_shows_the_keys_of_what_one_types_into(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(120, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one quince")
        await user.press("ctrl+f")
        await user.until(lambda: "Enter Next" in user.screen_text().splitlines()[-1])
        assert "^L Reset" not in user.screen_text().splitlines()[-1]
        await user.press("escape")
        await user.until(lambda: "^L Reset" in user.screen_text().splitlines()[-1])


async def test_a_click_on_a_key_of_the_footer_presses_it(make_app: MakeApp, drive: Any) -> None:
    """The key of the screen while the prompt has the focus; of the row above the input that has it."""
    async with make_app().run_test(size=(120, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one quince")

        async def click(key: str) -> None:
            await user.until(lambda: key in user.screen_text().splitlines()[-1])
            await pilot.click(offset=(user.screen_text().splitlines()[-1].index(key), 23))

        await user.press("ctrl+f")
        await click("Close")
        await user.until(lambda: not user.chat.query_one("#find").display)
        await click("New")
        await user.until(lambda: not user.chat.session.path())
