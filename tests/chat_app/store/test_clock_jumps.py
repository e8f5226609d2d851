"""A clock that jumps: the trash keeps what it promised, and the chat last written to stands first."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

import chat_app.chat.conversation as conversation_module
import chat_app.store.schema as schema
from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore, Transcript
from chat_app.store.database import Database
from chat_app.store.importing.chat import ImportedChat, put_imported
from chat_app.store.transcript import ChatDetails

DAY_S = 86_400
NOW_S = 1_795_000_000  # in November 2026


class Clock:
    """The system's clock. A new start of the app knows nothing of what the last one saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.set(NOW_S)

    def set(self, seconds: float) -> None:
        self.now_s = seconds
        self._monkeypatch.setattr(conversation_module, "_last_microsecond", 0)
        self._monkeypatch.setattr(time, "time", lambda: seconds)
        self._monkeypatch.setattr(time, "time_ns", lambda: int(seconds * 1e9))

    def jump(self, days: float) -> None:
        self.set(self.now_s + days * DAY_S)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def say(store: ChatStore, text: str) -> Transcript:
    """A new chat with one message."""
    transcript = store.create(model="toy")
    transcript.append(transcript.conversation.add("user", text))
    return transcript


def titles(store: ChatStore, *, deleted: bool = False) -> list[str]:
    return [chat.title for chat in store.list(deleted=deleted)]


@pytest.mark.parametrize("days", [31, 400, 36_500])
def test_a_clock_that_jumps_ahead_empties_no_trash(store: ChatStore, clock: Clock, days: int) -> None:
    store.delete(say(store, "gone").id)
    for _ in range(6):
        for jump in (days, -days):  # there and back
            clock.jump(jump)
            say(store, "another")
    assert titles(store, deleted=True) == ["gone"]
    spent = store.database.read(lambda c: c.execute("SELECT max(trash_s) FROM chat").fetchone())
    assert spent == (0,)


def test_a_clock_that_was_far_behind_when_a_chat_was_deleted_empties_no_trash(
    store: ChatStore, clock: Clock
) -> None:
    clock.set(0)  # an empty battery: 1970
    store.delete(say(store, "gone").id)
    clock.set(NOW_S)
    say(store, "another")
    assert titles(store, deleted=True) == ["gone"]


def test_the_trash_is_emptied_after_thirty_days_of_use(store: ChatStore, clock: Clock) -> None:
    store.delete(say(store, "gone").id)
    seen = []
    for _ in range(31):
        clock.jump(1)
        say(store, "another").close()
        seen.append(len(titles(store, deleted=True)))
    assert seen == [1] * 29 + [0] * 2
    for table in ("message", "search"):
        count = store.database.read(lambda c, t=table: c.execute(f"SELECT count(*) FROM {t}").fetchone())
        assert count == (31,), table


def test_time_before_a_chat_was_deleted_is_not_counted(store: ChatStore, clock: Clock) -> None:
    chats = [say(store, "first"), say(store, "second")]
    for chat in chats:
        clock.jump(6)
        store.delete(chat.id)
    assert store.database.read(
        lambda c: c.execute("SELECT round(trash_s / 86400) FROM chat ORDER BY seq").fetchall()
    ) == [(6,), (0,)]
    store.restore(chats[0].id)
    store.delete(chats[0].id)
    assert store.database.read(lambda c: c.execute("SELECT max(trash_s) FROM chat").fetchone()) == (0,)


def test_the_chat_last_written_to_stands_first_whatever_the_clock_says(
    store: ChatStore, clock: Clock
) -> None:
    one = say(store, "one")
    clock.jump(-400)
    two = say(store, "two")
    assert titles(store) == ["two", "one"]
    clock.jump(-400)
    one.append(one.conversation.add("assistant", "uno"))
    assert titles(store) == ["one", "two"]
    latest = store.latest()
    assert latest is not None
    assert latest.id == one.id
    two.close()


def imported(name: str, updated: str) -> ImportedChat:
    conversation = Conversation(name, name)
    conversation.add("user", "hello")
    return ImportedChat(conversation, ChatDetails(), updated)


def test_an_imported_chat_stands_where_its_time_belongs(store: ChatStore, clock: Clock) -> None:
    for text in ("2026-11-18", "2026-11-19"):
        say(store, text)
        clock.jump(1)
    times = ("2020-01-01", "2026-11-18T20", "2026-11-18T22", "2031-01-01", "")
    for when in times:
        store.database.write(lambda c, when=when: put_imported(c, imported(f"at {when}", when)))
    assert titles(store) == [
        "at 2031-01-01",
        "2026-11-19",
        "at 2026-11-18T22",
        "at 2026-11-18T20",
        "2026-11-18",
        "at 2020-01-01",
        "at ",
    ]
    say(store, "now")
    assert titles(store)[0] == "now"


def test_chats_of_the_first_schema_keep_their_order_and_their_trash_begins_anew(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "chats.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        for statement in schema.MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        for name, updated, deleted in (("b", "2025", None), ("a", "2026", None), ("c", "2024", "2024")):
            row = (name, name, updated, deleted)
            connection.execute("INSERT INTO chat (id, title, updated, deleted) VALUES (?, ?, ?, ?)", row)
    connection.close()
    store = ChatStore(Database(path))
    assert titles(store) == ["a", "b"]
    say(store, "new")
    assert titles(store) == ["new", "a", "b"]
    assert titles(store, deleted=True) == ["c"]
