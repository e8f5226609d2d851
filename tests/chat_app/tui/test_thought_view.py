"""Thoughts on the screen: one folded line, dim while they come, unfolded by a key, ended by another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llama_core.sampling.params import SamplingParams
from tests.support.thinker import thinker

MakeApp = Callable[..., Any]
SHORT = b"<think>\nA first line.\nA second line with [brackets] and \x1b[31mcodes.\n</think>\n\nIt is **so**."
ENDLESS = b"<think>\n" + b"hm, " * 300
PARAMS = SamplingParams(temperature=0.0, max_tokens=None)


def app_of(make_app: MakeApp, reply: bytes, *, step_s: float = 0.0, **more: Any) -> Any:
    engine, _ = thinker(reply, ctx_size=1 << 11, step_s=step_s)
    return make_app(
        factory=lambda path, settings, on_progress: engine, params=PARAMS, ctx_size=1 << 11, **more
    )


async def test_a_thought_is_one_line_until_it_is_unfolded(make_app: MakeApp, drive: Any) -> None:
    async with app_of(make_app, SHORT).run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        text = user.screen_text()
        assert "▸ thought · " in text
        assert "tokens" in text
        assert "It is so." in text
        assert "second line" not in text
        await user.press("alt+t")
        text = user.screen_text()
        assert "▾ thought · " in text
        assert "A second line with [brackets] and " in text
        assert "codes." in text
        await user.press("alt+t")
        assert "second line" not in user.screen_text()


async def test_answer_now_while_the_thought_comes(make_app: MakeApp, drive: Any) -> None:
    async with app_of(make_app, ENDLESS, step_s=0.01).run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        session = pilot.app.chat.session
        await user.press(*"why?", "enter")
        await user.until(lambda: session.reply is not None and session.reply.thought.n > 30)
        await user.until(lambda: "▸ thinking · " in user.screen_text())
        assert "hm, hm," in user.screen_text()
        assert "Answer" in user.screen_text()
        await user.press("alt+a")
        await user.ready()
        assert user.words() == ["why?", "yes"]
        assert "▸ thought · " in user.screen_text()
        assert "hm, hm," not in user.screen_text()


async def test_keys_that_have_nothing_to_do_say_so(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("alt+t")
        assert "no thought" in user.notices()[-1]
        await user.press("alt+a")
        assert "No reply" in user.notices()[-1]


async def test_think_on_from_the_message(make_app: MakeApp, drive: Any) -> None:
    async with app_of(make_app, SHORT).run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        await user.press("alt+up", "alt+o")
        await user.ready()
        reply = pilot.app.chat.session.path()[-1]
        assert reply.x["thought"].endswith("Wait,")
        assert "‹ 2/2 ›" in user.screen_text()


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("theme", ["llama-dark", "llama-light"])
def test_pictures(snap_compare: Any, make_app: MakeApp, asked: Any, width: int, theme: str) -> None:
    """The folded and the unfolded thought."""

    async def before(pilot: Any) -> None:
        app = pilot.app
        await asked(pilot, "why?", "and how?")
        await pilot.press("alt+t")
        for view in app.chat.messages.views():  # times vary, pictures do not
            view._foot_line.display = False
            if view.thought is not None:
                view.thought._seconds = 9.0
                view.thought.draw()
        app.chat._numbers.line.display = False
        app.chat._numbers.panel.display = False
        await pilot.pause(0.2)

    app = app_of(make_app, SHORT, theme=theme)
    assert snap_compare(app, terminal_size=(width, 30), run_before=before)
