"""Work that comes back from a wait while its screen is being taken down must not look for widgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.widgets import Static

from chat_app.tui.screens.choose_model import ChooseModelScreen
from chat_app.tui.screens.confirm import ConfirmScreen
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.screens.export_chat import ExportScreen

MakeApp = Callable[..., Any]


class Slow(Static):
    """Takes its time to go, so that what happens in between is sure to happen."""

    async def on_unmount(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


class Busy(Dialog[None]):
    def compose(self) -> ComposeResult:
        yield Static(id="quick")
        yield Slow()

    def on_mount(self) -> None:
        self.run_worker(self.look())

    async def look(self) -> None:
        while True:
            self.query_one("#quick")
            await asyncio.sleep(0)


@pytest.mark.parametrize("dismissed", [True, False])
async def test_a_dialogs_work_ends_before_its_widgets(dismissed: bool) -> None:
    app: App[None] = App()
    async with app.run_test() as pilot:
        await app.push_screen(Busy())
        await pilot.pause()
        if dismissed:
            await pilot.press("escape")
            await pilot.pause()
            assert not isinstance(app.screen, Busy)


async def test_the_apps_work_ends_before_the_chats_widgets(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.chat.mount(Slow())

        async def look() -> None:
            while True:
                user.chat.prompt.focus()
                await asyncio.sleep(0)

        user.app.run_worker(look())
        await pilot.pause()


DIALOGS: dict[str, Callable[[Any], Any]] = {
    "history": lambda app: app.show_history(),
    "export": lambda app: app.push_screen(ExportScreen(app.chat.session.conversation, Path())),
    "settings": lambda app: app.action_settings(),
    "models": lambda app: app.push_screen(ChooseModelScreen()),
    "confirm": lambda app: app.push_screen(ConfirmScreen("t", Content("a"), yes="y", no="n")),
    "inspector": lambda app: app.inspect(app.chat.session.path()[-1].id),
    "palette": lambda app: app.action_command_palette(),
    "help": lambda app: app.action_help(),
}


@pytest.mark.parametrize("name", DIALOGS)
async def test_a_dialog_that_opens_while_the_app_ends(make_app: MakeApp, drive: Any, name: str) -> None:
    """An exception in its handlers would end `run_test` with it."""
    app = make_app()
    async with app.run_test() as pilot:
        d = drive(pilot)
        await d.ready()
        await d.say("hello")
        DIALOGS[name](app)
        app.exit()


# Not Textual's own palette, which is not proof against it; the inspector needs a message.
@pytest.mark.parametrize("name", [name for name in DIALOGS if name not in ("palette", "inspector")])
async def test_a_dialog_that_opens_while_the_app_is_taken_down(make_app: MakeApp, name: str) -> None:
    """Textual still mounts it, but not what it is composed of."""
    async with make_app().run_test() as pilot:
        DIALOGS[name](pilot.app)


async def test_an_app_that_ends_before_its_first_paint_begins_nothing(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Textual calls what waits for a paint also while the app ends."""
    app = make_app()
    async with app.run_test() as pilot:
        await pilot.pause()
        monkeypatch.setattr(app, "_running", False)
        app.chat._begin()
        monkeypatch.setattr(app, "_running", True)
