"""A loop on the screen: a line where it began, and one key that cuts there and offers other tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.screens.inspector import InspectorScreen
from llama_core.sampling.params import SamplingParams
from tests.support.thinker import thinker

MakeApp = Callable[..., Any]
LOOPS = b"A **tale**:\n\nit goes " + b"round and round, " * 100
PARAMS = SamplingParams(temperature=0.0, loop_rounds=4)


def app_of(make_app: MakeApp, **more: Any) -> Any:
    engine, _ = thinker(LOOPS)
    return make_app(factory=lambda path, settings, on_progress: engine, params=PARAMS, **more)


async def test_one_key_cuts_a_loop_and_offers_alternatives(make_app: MakeApp, drive: Any) -> None:
    async with app_of(make_app).run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        text = user.screen_text()
        assert "begins to repeat itself: 17 tokens, 10 times" in text
        assert "A tale:" in text
        await user.press("alt+x")
        await user.until(lambda: isinstance(pilot.app.screen, InspectorScreen))
        await user.until(lambda: "probability" in user.screen_text())
        reply, cut = pilot.app.chat.session.conversation.children(pilot.app.chat.session.path()[0].id)
        assert pilot.app.screen.walk.at == reply.x["loop"]["begin"]
        assert cut.content == reply.content[: reply.x["loop"]["at"]]
        await user.press("down", "enter")
        await user.ready()
        siblings = pilot.app.chat.session.conversation.children(pilot.app.chat.session.path()[0].id)
        assert len(siblings) == 3
        assert siblings[-1].content[: len(cut.content)] == cut.content


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("theme", ["llama-dark", "llama-light"])
def test_pictures(snap_compare: Any, make_app: MakeApp, asked: Any, width: int, theme: str) -> None:
    """The line where the loop begins, and the end that it brought."""

    async def before(pilot: Any) -> None:
        app = pilot.app
        await asked(pilot, "why?")
        for view in app.chat.messages.views():  # times vary, pictures do not
            view.message.x.pop("timings", None)
            view._show_foot()
        app.chat._numbers.line.display = False
        app.chat._numbers.panel.display = False
        await pilot.pause(0.2)

    assert snap_compare(app_of(make_app, theme=theme), terminal_size=(width, 30), run_before=before)
