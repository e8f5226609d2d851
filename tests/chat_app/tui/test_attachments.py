"""Files on the screen: mentioned, completed, dropped, measured before they are sent, folded afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.widgets import TextArea

from chat_app.attachments.attachment import attachments_of
from chat_app.chat.file_summary import REQUEST
from chat_app.tui.widgets.attachments import AttachedFiles
from tests.support.fake_engine import FakeClock, FakeEngine

MakeApp = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    (here / "notes.txt").write_text("a line\n" * 100)
    (here / "two words.txt").write_text("[b]\x1b[31mred[/b]")
    (here / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    monkeypatch.chdir(here)
    return here


async def test_a_mention_is_completed_measured_sent_and_folded(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.script = lambda turns: "Done."
    async with make_app().run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"read @no")
        await user.until(lambda: "@notes.txt" in user.screen_text())
        await user.press("enter")
        assert pilot.app.chat.prompt.text == "read @notes.txt "
        await user.until(lambda: "% of the 2,048 left" in user.screen_text())
        await user.press(*"now")
        await user.press("enter")
        await user.ready()
        assert user.words()[0] == "read @notes.txt now"
        assert "2,048 left" not in user.screen_text()
        assert "▸ notes.txt · 100 lines · UTF-8" in user.screen_text()
        assert "a line" not in user.screen_text()
        await user.press("alt+up", "alt+up", "alt+t")
        assert user.screen_text().count("a line") > 10
        await user.press("alt+t")
        assert "a line" not in user.screen_text()


async def test_what_is_typed_whole_is_sent_by_enter(make_app: MakeApp, drive: Any, folder: Path) -> None:
    (folder / "notes.txt.bak").write_text("old")
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"@notes.txt", "enter")
        await user.ready()
        assert user.words()[0] == "@notes.txt"


async def test_dropped_files_become_mentions(make_app: MakeApp, drive: Any, folder: Path) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        prompt = pilot.app.chat.prompt
        prompt.post_message(Paste(f"'{folder / 'two words.txt'}'"))
        await user.until(lambda: prompt.text == f'@"{folder / "two words.txt"}" ')
        prompt.set_text("/file ")
        prompt.post_message(Paste(str(folder / "notes.txt")))
        await user.until(lambda: prompt.text == f"/file {folder / 'notes.txt'}")
        await user.press("enter")
        assert prompt.text == f"@{folder / 'notes.txt'} "


async def test_what_cannot_be_attached_is_told_before_and_keeps_the_prompt(
    make_app: MakeApp, drive: Any
) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"see @p.png ")
        await user.until(lambda: "it is a PNG picture" in user.screen_text())
        await user.press("enter")
        await user.until(lambda: pilot.app.chat.prompt.text.strip() == "see @p.png")
        assert user.words() == []


async def test_what_does_not_fit_is_marked_before_it_is_sent(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.ctx_size = 64
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"@notes.txt ")
        await user.until(lambda: "more than the 64 left" in user.screen_text())


async def test_the_beginning_of_a_file_where_the_whole_has_no_room(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.ctx_size, engine.script = 120, lambda turns: "Done."
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"@notes.txt read", "enter")
        await user.until(lambda: "A part" in user.screen_text())
        await user.press("p")
        await user.ready()
        assert user.words() == ["@notes.txt read", "Done."]
        assert "its beginning" in user.screen_text()


async def test_a_summary_by_pieces_is_watched_edited_and_sent(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.ctx_size, engine.max_ctx_size = 120, 1000
    engine.script = lambda turns: "It has [lines]." if REQUEST in turns[-1]["content"] else "Done."
    async with make_app().run_test(size=(80, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"@notes.txt read", "enter")
        await user.until(lambda: "Summarise file" in user.screen_text())
        engine.gate.clear()
        await user.press("f")
        await user.until(lambda: re.search(r"The model reads part 1 of \d+: 0%", user.screen_text()))
        assert "A summary of notes.txt" in user.screen_text()
        engine.gate.set()
        area = pilot.app.screen.query_one(TextArea)
        await user.until(lambda: not area.read_only)
        area.text = "It has [many] lines."
        await user.press("ctrl+s")
        await user.ready()
        assert user.words() == ["@notes.txt read", "Done."]
        assert '<file name="notes.txt" part="summary">\nIt has [many]' in engine.calls[-1][1][0]["content"]
        assert "notes.txt · 100 lines · UTF-8, its summary" in user.screen_text()
        await user.press("alt+up", "alt+up", "alt+t")
        shown = pilot.app.chat.query_one(AttachedFiles).shown().plain
        assert "Summary:\nIt has [many] lines.\n\nThe file:\na line\na line" in shown


async def test_names_and_texts_are_inert(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        pilot.app.chat.session.submit("look", files=["two words.txt"])
        await user.ready()
        await user.press("alt+t")
        assert "[b]" in user.screen_text()
        assert "\x1b" not in user.screen_text()
        assert [one.name for one in attachments_of(user.pilot.app.chat.session.path()[0].x)] == [
            "two words.txt"
        ]


@pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=lambda size: f"{size[0]}")
def test_a_picture(
    snap_compare: Any, make_app: MakeApp, until: Any, asked: Any, engine: FakeEngine, size: tuple[int, int]
) -> None:
    engine.script = lambda turns: "Both are short."

    async def run_before(pilot: Any) -> None:
        app = pilot.app
        await asked(pilot, 'compare @notes.txt and @"two words.txt"')
        app.chat.prompt.set_text("and @notes.txt with @t")
        await until(pilot, lambda: "left" in str(app.chat.query_one("#attached").render()))
        await pilot.pause(0.2)

    assert snap_compare(make_app(clock=FakeClock()), terminal_size=size, run_before=run_before)
