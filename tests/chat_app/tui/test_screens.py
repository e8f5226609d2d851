"""Models that are missing or wrong, the other screens, drafts and pastes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_core.errors import ModelFormatError
from tests.support.fake_engine import FakeEngine, factory_of

MakeApp = Callable[..., Any]


async def test_a_wrong_model_file_is_explained_and_what_is_typed_stays(
    make_app: MakeApp, drive: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    good = tmp_path / "good.gguf"
    good.write_bytes(b"GGUF")

    def factory(path: Path, *rest: Any) -> FakeEngine:
        if path != good:
            # Without the folder: where a long sentence is folded depends on its length.
            raise ModelFormatError(path.name, "magic", "found [b]PK[/b], expected GGUF")
        return factory_of(engine)(path, *rest)

    async with make_app(factory=factory).run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.until(lambda: "expected GGUF" in user.screen_text())
        assert "[b]PK[/b]" in user.screen_text()
        await user.press(*"works", "enter")  # nothing opens that would take it
        await user.until(lambda: "Queued" in user.screen_text())
        await user.command(f"/model {good}")
        await user.until(lambda: user.words())
        await user.ready()
        assert user.words()[0] == "works"


async def test_without_model_and_network_the_app_is_open(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_app.models.download import pull as download

    def no_network(*_: Any) -> Path:
        raise download.DownloadError("The model could not be fetched: no network.")

    monkeypatch.setattr(download, "pull", no_network)
    monkeypatch.setattr("chat_app.models.catalogue.installed_package_file", lambda entry: None)
    async with make_app(model="smollm2-135m").run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.until(lambda: "no network" in user.screen_text())
        await user.until(lambda: "llama-chat models pull" in user.screen_text())
        await user.press(*"hi", "enter")
        await user.until(lambda: "Queued" in user.screen_text())


async def test_fetching_shows_progress_and_loads(
    make_app: MakeApp, drive: Any, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go_on = threading.Event()

    def pull(name: str, on_progress: Any, cancelled: Any) -> Path:
        on_progress(40 * 2**20, 80 * 2**20)
        go_on.wait(20)
        return model_file

    monkeypatch.setattr("chat_app.models.download.pull.pull", pull)
    monkeypatch.setattr("chat_app.models.catalogue.installed_package_file", lambda entry: None)
    async with make_app(model="smollm2").run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.until(lambda: "40 of 80 MiB" in user.screen_text())
        await user.press(*"hello", "enter", *"more")  # one goes on typing; Enter stops nothing
        await user.until(lambda: "Queued" in user.screen_text())
        assert user.chat.fetch_row.running
        go_on.set()
        await user.until(lambda: user.words())
        await user.ready()
        assert user.words()[0] == "hello"
        assert user.chat.prompt.text == "more"
        assert not user.chat.fetch_row.display
        assert user.chat.session.model.info.name == "tiny-llama"


async def test_help_lists_every_binding_and_command(make_app: MakeApp, drive: Any) -> None:
    from chat_app.chat.commands import SLASH
    from chat_app.tui.app import key_groups
    from chat_app.tui.screens.help import HelpScreen, HelpText

    async with make_app(keymap={"chat.reset": "ctrl+t"}).run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.press("f1")
        await user.until(lambda: isinstance(user.app.screen, HelpScreen))
        body = " ".join(user.app.screen.query_one(HelpText).content.plain.split())
        for _, bindings in key_groups():
            shown = [one for one in bindings if one.description]
            assert all((binding.tooltip or binding.description) in body for binding in shown)
        assert all(command.name in body for command in SLASH)
        assert "Ctrl+T" in body
        await user.press("escape")
        await user.ready()
        await user.press("ctrl+t")
        await user.until(lambda: any("cache" in note for note in user.notices()))


@pytest.mark.parametrize(("width", "dialog"), [(120, 102), (80, 80)])
async def test_a_text_is_as_wide_as_it_needs(make_app: MakeApp, drive: Any, width: int, dialog: int) -> None:
    rows = [f"{letter * 94}|" for letter in "ab"]
    async with make_app().run_test(size=(width, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        pilot.app.show_text("All chats", "\n".join(rows))
        await user.until(lambda: "Esc closes" in user.screen_text())
        assert pilot.app.screen.query_one(".dialog").outer_size.width == dialog
        assert all(row in user.screen_text() for row in rows) == (width > 95)


async def test_settings_are_checked_and_applied(make_app: MakeApp, drive: Any) -> None:
    from textual.widgets import Input

    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("f2")
        await user.until(lambda: user.app.screen.query("#set-temperature"))
        field = user.app.screen.query_one("#set-temperature", Input)
        field.value = "warm"
        await user.until(lambda: "no number" in user.screen_text())
        await user.press("ctrl+s")
        field.value = "0.2"
        await user.press("ctrl+s")
        await user.until(lambda: user.chat.session.settings.params.temperature == 0.2)


async def test_drafts_survive(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.press(*"half a thought")
        user.app.save_all()
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.until(lambda: user.chat.prompt.text == "half a thought")


async def test_a_large_paste_is_fine(make_app: MakeApp, drive: Any) -> None:
    from textual.events import Paste

    text = "line of text\r\n" * 5_000 + "\x1b[31mend"
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        user.chat.prompt.post_message(Paste(text))
        await user.until(lambda: user.chat.prompt.text.endswith("end"))
        assert user.chat.prompt.text == "line of text\n" * 5_000 + "[31mend"


async def test_a_chats_draft_and_queue_come_back_with_it(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("first")
        chat_id = user.chat.session.chat.id
        engine.gate.clear()
        await user.press(*"slow", "enter")
        await user.until(lambda: user.chat.session.generating)
        await user.press(*"queued", "enter")
        await user.press(*"half a thought")
        # No clean end: what a crash leaves on disk must do.
        await user.until(lambda: "half a thought" in user.app.drafts.load(chat_id))
        engine.gate.set()
        user.app.drafts.save = lambda *_: True
    async with make_app(chat_id=chat_id).run_test() as pilot:
        user = drive(pilot)
        await user.until(lambda: user.chat.prompt.text == "queued\n\nhalf a thought")
        await user.press("ctrl+n")
        await user.until(lambda: not user.words())
        assert user.chat.prompt.text == "queued\n\nhalf a thought"
        await user.until(lambda: "half" in user.app.drafts.load("new"))
        await user.until(lambda: user.app.drafts.load(chat_id) == "")  # written after the other


async def test_a_bad_file_leaves_the_model_that_runs(make_app: MakeApp, drive: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"PK")

    def check(path: Path, settings: Any) -> None:
        raise ModelFormatError(path.name, "magic", "found PK, expected GGUF")

    async with make_app(check_model=check).run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command(f"/load {bad}")
        await user.until(lambda: "expected GGUF" in user.screen_text())
        await user.until(lambda: user.chat.prompt.text == f"/model {bad}")
        user.chat.prompt.clear()
        assert user.chat.session.model.info.name == "tiny-llama"
        await user.say("still there")


async def test_a_model_of_no_such_name_comes_back_and_opens_nothing(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.command("/model smolm2")
        await user.until(lambda: user.chat.prompt.text == "/model smolm2")
        assert "is neither a file nor a known model" in user.notices()[-1]
        assert user.app.screen is user.chat
        assert user.chat.session.model.info.name == "tiny-llama"


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_download_is_stopped_by_the_keys_that_stop_a_reply(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    import time

    from chat_app.models.download import pull as download

    def pull(name: str, on_progress: Any, cancelled: Any) -> Path:
        while not cancelled():
            time.sleep(0.01)
        on_progress(1, 2)  # too late: for nobody
        raise download.DownloadError("The download was stopped.")

    monkeypatch.setattr(download, "pull", pull)
    monkeypatch.setattr("chat_app.models.catalogue.installed_package_file", lambda entry: None)
    async with make_app(model="smollm2").run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.until(lambda: "Esc stops" in user.screen_text())
        await user.press(*"half", key)
        await user.until(lambda: "tries again" in user.screen_text())
        assert user.chat.prompt.text == "half"
        assert user.chat.session.model.info is None
        assert not user.chat.fetch_row.display


async def test_the_list_of_chats_can_come_first(make_app: MakeApp, drive: Any) -> None:
    from chat_app.tui.screens.history import HistoryScreen

    async with make_app(chooses_chat=True).run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.until(lambda: isinstance(user.app.screen, HistoryScreen))
        await user.press("escape")
        await user.ready()
        await user.say("one")
        chat_id = user.chat.session.chat.id
        await user.press("ctrl+r")
        await user.until(lambda: "1 chat" in user.screen_text())
        await user.press("down", "r")
        await user.until(lambda: "Rename this chat" in user.screen_text())
        await user.press("ctrl+u", *"Two", "enter")
        await user.until(lambda: user.chat.session.conversation.title == "Two")
        assert user.app.store.list()[0].title == "Two"
        assert user.app.store.list()[0].id == chat_id
