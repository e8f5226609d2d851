"""The screen on a server elsewhere: it says so where one cannot miss it, and what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.widgets import OptionList, Static

from chat_app.config.endpoints import Endpoint
from chat_app.engines.sources import open_engine
from chat_app.tui.screens.inspector import InspectorScreen
from tests.support.fake_server import FakeServer, Reply, fake_server

MakeApp = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    entry = {"token": "Hi", "logprob": -0.7, "top_logprobs": [{"token": "Oh", "logprob": -0.7}]}
    with fake_server(lambda asked: Reply(words=("Hi",), logprobs=[entry])) as one:
        yield one


@pytest.mark.parametrize("width", [80, 140])
async def test_title_panel_welcome_and_inspector(
    make_app: MakeApp, server: FakeServer, until: Any, ready: Any, width: int
) -> None:
    app = make_app(model=f"openai:{server.url}#fake", factory=open_engine, panel="lab")
    host = server.url.split("/")[2]
    async with app.run_test(size=(width, 40)) as pilot:
        await ready(pilot)
        chat = app.chat
        assert f"remote · {host}" in str(chat.query_one("#title-bar", Static).content)
        assert f"What you say here is sent to {host}." in str(chat.query_one("#welcome", Static).content)
        await pilot.press(*"go", "enter")
        await until(pilot, lambda: len(chat.session.path()) == 2 and not chat.session.generating)
        if width == 140:
            panel = "\n".join(str(part.content) for part in chat.query(".panel-part").results(Static))
            assert "Not told: memory, KV cache" in panel
            assert "on the server" in panel
        app.inspect(chat.session.path()[-1].id)
        await until(pilot, lambda: isinstance(app.screen, InspectorScreen))
        screen = app.screen
        await until(pilot, lambda: "rank" in str(screen.query_one("#inspector-look", Static).content))
        shown = str(screen.query_one("#inspector-look", Static).content)
        assert "below 1" in shown
        assert "not told by the server" in shown
        assert ", id" not in shown
        assert "Oh" in shown


async def test_engines_of_the_config_can_be_chosen(
    make_app: MakeApp, server: FakeServer, until: Any, ready: Any
) -> None:
    engines = {"big": Endpoint(server.url, "fake", "big")}
    app = make_app(engines=engines)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        app.models.choose()
        await until(pilot, lambda: app.screen.query("#models") and app.screen._names)
        assert "big" in app.screen._names
        options = app.screen.query_one("#models", OptionList)
        shown = str(options.get_option_at_index(app.screen._names.index("big")).prompt)
        assert shown == f"big  remote, {server.url.split('/')[2]}"
        await pilot.press("escape")
        app.chat.prompt.set_text("/model openai:nowhere")
        await pilot.press("enter")
        await until(pilot, lambda: any("needs the address of a server" in one for one in app.news.said))
