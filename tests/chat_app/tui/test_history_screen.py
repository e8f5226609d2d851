"""The history screen, driven by keys: it lists, searches, previews, opens, deletes and exports."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from chat_app.store.chats import ChatStore, ChatSummary
from chat_app.store.database import Database
from chat_app.tui.screens.confirm import ConfirmScreen
from chat_app.tui.screens.history import Chosen, HistoryScreen
from chat_app.tui.screens.history_rows import group_of
from chat_app.tui.screens.rename import RenameScreen

HANG_S = 20


class HistoryApp(App[None]):
    """Nothing but the screen under test, and what it was dismissed with."""

    def __init__(self, store: ChatStore, query: str = "") -> None:
        super().__init__()
        self.store = store
        self.query_text = query
        self.answers: list[Chosen | None] = []

    def compose(self) -> ComposeResult:
        yield Static("the chat")

    def on_mount(self) -> None:
        self.push_screen(HistoryScreen(self.store, self.query_text), self.answers.append)


async def until(pilot: Pilot[None], done: Callable[[], bool]) -> None:
    """Wait for a state, however slow the machine is; a minute means it never comes."""
    for _ in range(HANG_S * 50):
        await asyncio.sleep(0.02)
        if done():
            await pilot.pause()
            return
    raise AssertionError("the screen never came to the state expected")


def rows(app: HistoryApp) -> list[str]:
    """The chats listed, without headlines."""
    found = app.screen.query_one("#history-list", OptionList)
    options = [found.get_option_at_index(at) for at in range(found.option_count)]
    return [str(one.prompt) for one in options if not one.disabled]


@contextlib.asynccontextmanager
async def listed(
    store: ChatStore, n: int = 3, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[HistoryApp, Pilot[None]]]:
    """The screen once it lists its n chats."""
    app = HistoryApp(store)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: len(rows(app)) == n)
        yield app, pilot


def shown(app: HistoryApp, name: str) -> str:
    return str(app.screen.query_one(name, Static).render())


def write(store: ChatStore, *turns: str, title: str = "") -> str:
    transcript = store.create(model="smollm2", title=title)
    for number, text in enumerate(turns):
        transcript.append(transcript.conversation.add("assistant" if number % 2 else "user", text))
    transcript.close()
    return transcript.id


@pytest.fixture
def store(tmp_path: Path) -> ChatStore:
    return ChatStore(Database(tmp_path / "chats.db"))


@pytest.fixture
def chats(store: ChatStore) -> list[str]:
    """Three chats, oldest first."""
    return [
        write(store, "How do I grow pears?", "Plant a [bold]pear[/bold] tree.", title="Gardening"),
        write(store, "What is the capital of France?", "Paris is the capital of France."),
        write(
            store, "[/] [red]markup[/red] \x1b[31mred\x07", "It is [link='x']text[/link].", title="[/nope]"
        ),
    ]


@pytest.mark.parametrize("width", [60, 80, 140])
async def test_chats_are_listed_newest_first_with_a_preview(
    store: ChatStore, chats: list[str], width: int
) -> None:
    async with listed(store, size=(width, 24)) as (app, pilot):
        found = rows(app)
        assert [row.splitlines()[0] for row in found] == [
            "[/nope]",
            "What is the capital of France?",
            "Gardening",
        ]
        assert all("smollm2 · 2 messages" in row for row in found)
        assert shown(app, "#history-note") == "3 chats"
        await pilot.press("down")
        await until(pilot, lambda: "Paris is the capital" in shown(app, "#history-text"))
        assert app.screen.query_one("#history-preview").display == (width >= 90)


async def test_no_text_of_a_chat_is_markup_or_control_code(store: ChatStore, chats: list[str]) -> None:
    async with listed(store, size=(140, 24)) as (app, pilot):
        await until(pilot, lambda: "[/] [red]markup[/red] [31mred" in shown(app, "#history-text"))
        assert "It is [link='x']text[/link]." in shown(app, "#history-text")
        await pilot.press(*"markup")
        await until(pilot, lambda: len(rows(app)) == 1)
        assert "[/] [red]markup[/red] [31mred" in rows(app)[0]


async def test_typing_searches_titles_and_messages(store: ChatStore, chats: list[str]) -> None:
    async with listed(store, size=(100, 24)) as (app, pilot):
        await pilot.press(*"PEAR tree")
        await until(pilot, lambda: len(rows(app)) == 1)
        assert "Plant a [bold]pear[/bold] tree." in rows(app)[0]
        assert shown(app, "#history-note") == "1 of 3 chats"
        await pilot.press(*"zzz")
        await until(pilot, lambda: not rows(app))
        assert "No chat holds these words" in shown(app, "#history-note")
        assert shown(app, "#history-text") == ""
        app.screen.query_one("#history-search", Input).value = "garden"
        await until(pilot, lambda: len(rows(app)) == 1)
        await pilot.press("enter")
        await until(pilot, lambda: app.answers == [Chosen(chats[0])])


async def test_a_query_given_is_searched_at_once(store: ChatStore, chats: list[str]) -> None:
    app = HistoryApp(store, "france")
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(rows(app)) == 1)
        assert app.screen.query_one("#history-search", Input).value == "france"


async def test_a_narrow_list_shows_the_match(store: ChatStore) -> None:
    write(store, "Once upon a time, as it is told, there was a king " + "who had three sons " * 9)
    app = HistoryApp(store, "king")
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: len(rows(app)) == 1 and "king" in rows(app)[0])
        line = rows(app)[0].splitlines()[1]
        room = app.screen.query_one("#history-list", OptionList).scrollable_content_region.width
        assert len(line) <= room
        excerpt = line.split("…")[1]
        assert abs(excerpt.index("king") + 2 - len(excerpt) / 2) <= 2


async def test_enter_on_a_row_opens_that_chat(store: ChatStore, chats: list[str]) -> None:
    async with listed(store) as (app, pilot):
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.answers == [Chosen(chats[0])])


async def test_escape_leaves_without_an_answer(store: ChatStore, chats: list[str]) -> None:
    app = HistoryApp(store)
    async with app.run_test() as pilot:
        await pilot.press("escape")
        await until(pilot, lambda: app.answers == [None])


async def test_no_chats_yet(store: ChatStore) -> None:
    app = HistoryApp(store)
    async with app.run_test() as pilot:
        await until(pilot, lambda: shown(app, "#history-note") == "There are no chats yet.")
        await pilot.press("down", "enter", "d", "e")
        assert app.answers == []


async def test_a_chat_is_deleted_only_after_yes(store: ChatStore, chats: list[str]) -> None:
    async with listed(store) as (app, pilot):
        await pilot.press("down", "d")
        await until(pilot, lambda: bool(app.screen.query("#confirm-no:focus")))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        assert len(store.list()) == 3
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and len(rows(app)) == 2)
        assert sorted(one.id for one in store.list()) == sorted([chats[0], chats[2]])


async def test_a_chat_is_renamed_and_pinned(store: ChatStore, chats: list[str]) -> None:
    async with listed(store) as (app, pilot):
        oldest = store.list()[-1].id
        await pilot.press("tab", "end", "p")
        await until(pilot, lambda: "pinned" in rows(app)[0])
        assert store.list()[0].id == oldest
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RenameScreen))
        await pilot.press("ctrl+u", *"[b]new", "enter")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "[b]new" in rows(app)[0])
        assert store.list()[0].title == "[b]new"
        await pilot.press("p")
        await until(pilot, lambda: "pinned" not in "".join(rows(app)))


async def test_a_deleted_chat_comes_back_by_one_key(store: ChatStore, chats: list[str]) -> None:
    async with listed(store) as (app, pilot):
        for left in (2, 1):
            await pilot.press("tab" if left == 2 else "home", "d")
            await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
            await pilot.press("y")
            await until(pilot, lambda left=left: len(rows(app)) == left)
        for back in (2, 3):
            await pilot.press("u")
            await until(pilot, lambda back=back: len(rows(app)) == back)
        await pilot.press("u")
        assert sorted(one.id for one in store.list()) == sorted(chats)


async def test_a_store_that_cannot_be_read_is_said_and_the_screen_stays(
    store: ChatStore, chats: list[str]
) -> None:
    with sqlite3.connect(store.database.path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    app = HistoryApp(store)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "newer llama-chat" in shown(app, "#history-note"))
        await pilot.press(*"pear")
        await until(pilot, lambda: "newer llama-chat" in shown(app, "#history-note"))
        assert isinstance(app.screen, HistoryScreen)


async def test_damage_that_the_list_finds_is_said(store: ChatStore, chats: list[str]) -> None:
    store.close()
    data = store.database.path.read_bytes()
    store.database.path.write_bytes(bytes(100) + data[100:])
    async with listed(store) as (app, pilot):
        await until(pilot, lambda: bool(app._notifications))
        assert "was damaged" in next(iter(app._notifications)).message


async def test_a_chat_is_exported_and_a_file_there_is_kept(
    store: ChatStore, chats: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with listed(store) as (app, pilot):
        await pilot.press("tab", "e")
        await until(pilot, lambda: bool(app.screen.query("#export-path:focus")))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        assert "Paris" not in (first := (folder / f"{chats[2]}.md").read_text())
        await pilot.press("e")
        await until(pilot, lambda: bool(app.screen.query("#export-path:focus")))
        await pilot.press("enter")
        await until(pilot, lambda: bool(shown(app, "#export-problem")))
        assert "exists already" in shown(app, "#export-problem")
        await pilot.press(*["backspace"] * 3, *".json", "enter")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".md"]
    assert (folder / f"{chats[2]}.md").read_text() == first


async def test_a_thousand_chats_do_not_hold_up_typing(store: ChatStore) -> None:
    write(store, "the one with a needle")
    write(store, "the one with a straw")

    def many(connection: sqlite3.Connection) -> None:
        """Copies of the second chat."""
        for table, columns in (
            ("chat", "title, kind, created, updated"),
            ("message", "parent, role, content, time, status, checksum, indexed"),
        ):
            names = {"chat": "id", "message": "id, chat_id"}[table]
            ids = {"chat": "id || '-' || n", "message": "id || '-' || n, chat_id || '-' || n"}[table]
            connection.execute(
                f"WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 998) "
                f"INSERT INTO {table} ({names}, {columns}) SELECT {ids}, {columns} FROM count, {table} "
                f"WHERE {table}.seq = (SELECT max(seq) FROM {table})"
            )

    store.database.write(many)
    async with listed(store, n=300) as (app, pilot):
        assert "1,000 chats; the newest 300 are shown" in shown(app, "#history-note")
        await pilot.press(*"needle")
        await until(pilot, lambda: len(rows(app)) == 1)
        assert "the one with a needle" in rows(app)[0]


async def test_leaving_stops_a_search_that_runs(
    store: ChatStore, chats: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(chats: object, query: str, cancelled: Callable[[], bool]) -> list[object]:
        loop.call_soon_threadsafe(begun.set)
        while not cancelled():
            time.sleep(0.001)
        loop.call_soon_threadsafe(ended.set)
        return []

    async with listed(store) as (app, pilot):
        monkeypatch.setattr(store, "search", endless)
        await pilot.press("x")
        await asyncio.wait_for(begun.wait(), HANG_S)
        await pilot.press("escape")
        await asyncio.wait_for(ended.wait(), HANG_S)
        await until(pilot, lambda: app.answers == [None])


def test_times_are_told_as_people_do() -> None:
    from chat_app.tui.screens.history_rows import describe_time

    now = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
    told = [
        describe_time((now - timedelta(days=days)).isoformat().replace("+00:00", "Z"), now)
        for days in (0, 1, 7, 386, -400)
    ]
    assert told == ["15:00", "yesterday 15:00", "Mon 16 Nov", "2 Nov 2025", "28 Dec 2027"]
    assert describe_time("rubbish", now) == describe_time("", now) == ""


async def test_several_chats_are_deleted_at_once_and_come_back_together(store: ChatStore) -> None:
    ids = [write(store, f"question {number}") for number in range(5)]
    async with listed(store, 5) as (app, pilot):
        await pilot.press("down", "space", "space")
        await until(pilot, lambda: "2 marked" in shown(app, "#history-note"))
        assert [row[:1] for row in rows(app) if "question" in row] == ["q", "●", "●", "q", "q"]
        assert "d deletes all that are marked" in shown(app, "#history-keys")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "these 2 chats" in str(app.screen.query_one(".dialog-title", Static).render())
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and len(rows(app)) == 3)
        assert [chat.id for chat in store.list()] == [ids[4], ids[1], ids[0]]
        assert "marked" not in shown(app, "#history-note")
        assert "marked" not in shown(app, "#history-keys")
        await pilot.press("u")
        await until(pilot, lambda: len(rows(app)) == 5)
        assert len(store.list()) == 5


def test_chats_stand_under_the_days_on_which_they_were_written_to() -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)

    def group(days: float, *, pinned: bool = False) -> str:
        when = (now - timedelta(days=days)).isoformat()
        return group_of(ChatSummary("id", "t", when, when, "m", 1, pinned), now)

    assert [group(days) for days in (0, 0.4, 1, 2, 6, 7, 30, 334, 400)] == [
        *("Today", "Today", "Yesterday", "This week", "This week"),
        *("November", "October", "December 2025", "October 2025"),
    ]
    assert group(3, pinned=True) == "Pinned"
    assert group(-2) == "Today"  # a clock that was ahead
    assert group_of(ChatSummary("id", "t", "", "", "m", 1), now) == "Without a date"


async def test_the_only_chat_is_marked_as_any_other(store: ChatStore) -> None:
    write(store, "question")
    async with listed(store, 1) as (app, pilot):
        await pilot.press("down", "space")
        await until(pilot, lambda: "1 marked" in shown(app, "#history-note"))
        assert rows(app)[0].startswith("●")
