"""The context is full: the ways out on the screen, and the summary that can be edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import TextArea

from chat_app.chat.summary import HEADING, REQUEST
from chat_app.engines.base import Prompt
from chat_app.tui.screens.compact import CompactScreen
from chat_app.tui.screens.overflow import OverflowScreen
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
LONG = "please tell me more about it " * 12


def answers(turns: Any) -> str:
    """A summary where one is asked for, else a few words."""
    if REQUEST in turns[-1]["content"]:
        return "The user asked about [pears]. The answer was yes, several times."
    return "yes " * 12


async def fill(user: Any, engine: FakeEngine) -> None:
    """Say enough that the next prompt has no room."""
    engine.script, engine.ctx_size, engine.max_ctx_size = answers, 150, 1000
    await user.ready()
    for n in range(4):
        await user.say(f"question {n} about pears")


async def test_summarise_edit_and_go_on(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    engine.ctx_size, engine.max_ctx_size = 150, 1000
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await fill(user, engine)
        pilot.app.chat.prompt.set_text(LONG)
        await user.press("enter")
        await user.until(lambda: isinstance(pilot.app.screen, OverflowScreen))
        text = user.screen_text()
        for word in (
            "Summarise (c)",
            "Leave out (d)",
            "More context (m)",
            "a context of 300",
            "Do not send (s)",
        ):
            assert word in text
        await user.press("c")
        await user.until(lambda: isinstance(pilot.app.screen, CompactScreen))
        area = pilot.app.screen.query_one(TextArea)
        await user.until(lambda: not area.read_only)
        assert "[pears]" in area.text
        area.text += " And plums."
        await user.press("ctrl+s")
        await user.ready()
        assert user.words()[0] == (
            f"{HEADING}\n\nThe user asked about [pears]. The answer was yes, several times. And plums."
        )
        assert user.words()[-2] == LONG.strip()
        await user.press(*["alt+up"] * len(user.views()))
        assert "Summary of what came before" in user.screen_text()
        assert "‹ 2/2 ›" in user.screen_text()
        await user.press("left")
        await user.until(lambda: user.words()[0] == "question 0 about pears")


async def test_esc_leaves_the_chat_and_gives_the_prompt_back(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.ctx_size = 150
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await fill(user, engine)
        words = user.words()
        pilot.app.chat.prompt.set_text(LONG)
        await user.press("enter")
        await user.until(lambda: isinstance(pilot.app.screen, OverflowScreen))
        await user.press("c")
        await user.until(lambda: isinstance(pilot.app.screen, CompactScreen))
        await user.press("escape")
        await user.until(lambda: pilot.app.chat.prompt.text.strip() == LONG.strip())
        assert user.words() == words
        await user.ready()


@pytest.mark.parametrize("size", [(60, 20), (80, 24)])
async def test_all_ways_and_their_keys_are_in_sight(
    make_app: MakeApp, drive: Any, size: tuple[int, int]
) -> None:
    plan = Prompt((), (), prompt_n=4000, reply_n=500, limit=4096, drop=(0, 1, 2))
    async with make_app().run_test(size=size) as pilot:
        user = drive(pilot)
        await user.ready()
        pilot.app.set_keymap({"overflow.stop": "x"})
        pilot.app.push_screen(OverflowScreen(plan, 8192, files_n=2))
        await user.until(lambda: "send (x)" in user.screen_text())
        text = user.screen_text()
        for word in ("A part (p)", "Summarise files (f)", "Leave out (d)", "More context (m)", "send (x)"):
            assert word in text
        assert "A part: Of each of the 2 files" in " ".join(text.split()), "which way does what"
        await user.press("x")
        await user.until(lambda: pilot.app.screen is user.chat)


async def test_the_command(make_app: MakeApp, drive: Any, engine: FakeEngine) -> None:
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        engine.script = answers
        for n in range(4):
            await user.say(f"question {n} about pears")
        await user.command("/compact")
        await user.until(lambda: isinstance(pilot.app.screen, CompactScreen))
        await user.until(lambda: not pilot.app.screen.query_one(TextArea).read_only)
        await user.press("ctrl+s")
        await user.until(lambda: user.words()[:1] and user.words()[0].startswith(HEADING))
        assert len(user.words()) == 5


@pytest.mark.parametrize(
    ("width", "theme", "which"),
    [
        (80, "llama-dark", "overflow"),
        (140, "llama-light", "overflow"),
        (80, "llama-light", "compact"),
        (140, "llama-dark", "compact"),
    ],
)
def test_pictures(
    snap_compare: Any, make_app: MakeApp, drive: Any, engine: FakeEngine, width: int, theme: str, which: str
) -> None:
    """The two dialogs."""
    engine.ctx_size, engine.max_ctx_size = 150, 1000

    async def before(pilot: Any) -> None:
        user = drive(pilot)
        await fill(user, engine)
        pilot.app.chat.prompt.cursor_blink = False
        pilot.app.chat._numbers.line.display = False  # when the memory was measured is chance
        pilot.app.chat._numbers.panel.display = False
        pilot.app.chat.prompt.set_text(LONG)
        await user.press("enter")
        await user.until(lambda: isinstance(pilot.app.screen, OverflowScreen))
        if which == "compact":
            await user.press("c")
            await user.until(lambda: isinstance(pilot.app.screen, CompactScreen))
            area = pilot.app.screen.query_one(TextArea)
            area.cursor_blink = False
            await user.until(lambda: not area.read_only)
        await pilot.pause(0.2)

    assert snap_compare(make_app(theme=theme), terminal_size=(width, 30), run_before=before)
