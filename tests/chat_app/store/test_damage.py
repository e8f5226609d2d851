"""faults.md row 14: a byte flipped or the file cut anywhere; a file that this version must not touch."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from chat_app.chat.conversation import Message
from chat_app.store.chats import ChatStore, StoreError
from chat_app.store.database import Database
from chat_app.store.schema import SCHEMA_VERSION
from chat_app.store.transcript import StoredChat, read_chat
from tests.support.luck import SEED

# A page of the table holds four messages of the sample, an inner page leads to all of them.
MESSAGES_OF_A_PAGE = 6
MESSAGES = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the database alone."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_chats(path: Path) -> dict[str, Message]:
    """A file of many pages: three chats of ten messages, each message unlike all others."""
    store = ChatStore(Database(path))
    written: dict[str, Message] = {}
    for number in range(3):
        chat = store.create(model="toy", title=f"Chat {number}")
        for turn in range(MESSAGES // 3):
            text = f"chat {number}, turn {turn}: " + "Grüße, many words " * 40
            chat.append(chat.conversation.add("assistant" if turn % 2 else "user", text, x={"ids": [turn]}))
        chat.close()
        written |= {message.id: message for message in chat.conversation}
    return written


def readable(store: ChatStore) -> tuple[dict[str, Message], list[str]]:
    """Every message that the store gives, by id, and all that is said of damage."""
    found: dict[str, Message] = {}
    said: list[str] = []
    for chat in store.list(None):
        transcript = store.open(chat.id)
        found |= {message.id: message for message in transcript.conversation}
        said += transcript.warnings
    return found, said + store.database.notices


def same_but_place(one: Message, other: Message) -> bool:
    return replace(one, parent=None) == replace(other, parent=None)


def read_stored(chat_id: str, connection: sqlite3.Connection) -> StoredChat | None:
    return read_chat(connection, chat_id)


def damage_and_go_on(path: Path, damaged: bytes, written: dict[str, Message]) -> int:
    """Open a damaged file, read all, go on. Returns how many messages are lost or changed; each was told."""
    for one in path.parent.iterdir():
        one.unlink()
    path.write_bytes(damaged)
    store = ChatStore(Database(path))
    found, said = readable(store)
    lost = written.keys() - found.keys()
    changed = [one for one in written.values() if one.id in found and not same_but_place(found[one.id], one)]
    # A byte in a free page, or one that is never read, changes nothing and is no damage.
    assert said or not (changed or lost), "damage was not told"
    transcript = store.create(model="toy")
    added = transcript.conversation.add("user", "going on")
    transcript.append(added)
    transcript.close()
    assert store.read(transcript.id).get(added.id) == added
    asides = [one for one in path.parent.iterdir() if one != path]
    assert len(asides) == bool(store.database.notices), "no rubbish is left"
    assert all(one.read_bytes() == damaged for one in asides), "what was damaged is kept as it was"
    again = ChatStore(Database(path))
    assert readable(again)[0].keys() == found.keys() | {added.id}
    assert again.database.notices == [], "a rebuilt file is sound"
    for chat in again.list(None):
        stored = again.database.read(partial(read_stored, chat.id))
        assert stored is not None
        assert not stored.has_gaps, "no message names one that is lost"
    return len(lost) + len(changed)


def flip_bytes(path: Path, positions: Iterable[int]) -> list[int]:
    written = write_chats(path)
    data = path.read_bytes()
    lost = []
    for position in positions:
        damaged = bytearray(data)
        damaged[position % len(data)] ^= 1 << position % 8
        lost.append(damage_and_go_on(path, bytes(damaged), written))
    return lost


def test_a_byte_flipped_anywhere_is_told_and_hides_no_more_than_its_page(folder: Path) -> None:
    rng = random.Random(SEED)
    positions = (rng.randrange(1 << 30) for _ in range(24))
    assert max(flip_bytes(folder / "chats.db", positions)) <= MESSAGES_OF_A_PAGE


def test_a_byte_flipped_in_the_first_page_loses_nothing(folder: Path) -> None:
    """It leads to all others, and holds what the tables look like."""
    positions = [*range(0, 112, 14), *range(1000, 4096, 700)]
    assert max(flip_bytes(folder / "chats.db", positions)) == 0


@pytest.mark.slow
def test_two_thousand_bytes_flipped(folder: Path) -> None:
    rng = random.Random(SEED)
    lost = flip_bytes(folder / "chats.db", (rng.randrange(1 << 30) for _ in range(2000)))
    assert sum(one > MESSAGES_OF_A_PAGE for one in lost) < 40  # where it hits an inner page of the table


def test_a_file_cut_anywhere_keeps_what_is_left(folder: Path) -> None:
    path = folder / "chats.db"
    written = write_chats(path)
    data = path.read_bytes()
    for size in range(0, len(data), len(data) // 8 + 1):
        for tail in (b"", bytes(len(data) - size)):
            lost = damage_and_go_on(path, data[:size] + tail if size else b"\0" * 99, written)
            assert lost <= MESSAGES * (1 - (size - 16 * 4096) / len(data)) + MESSAGES_OF_A_PAGE


def test_rubbish_in_the_files_place_is_kept_aside(folder: Path) -> None:
    path = folder / "chats.db"
    path.write_bytes(b"no database at all\n" * 1000)
    store = ChatStore(Database(path))
    assert store.list() == []
    (said,) = store.database.notices
    (aside,) = folder.glob("chats.db.damaged-*")
    assert aside.name in said
    assert aside.read_bytes().startswith(b"no database at all")


def test_damage_found_while_a_chat_is_open_loses_nothing_of_it(folder: Path) -> None:
    path = folder / "chats.db"
    write_chats(path)
    store = ChatStore(Database(path))
    transcript = store.create(model="toy")
    transcript.append(transcript.conversation.add("user", "one"))
    store.close()
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)
    transcript.append(transcript.conversation.add("assistant", "uno"))
    assert "was damaged" in transcript.warnings[0]
    assert [message.content for message in store.read(transcript.id).path()] == ["one", "uno"]


def test_a_changed_text_is_told(folder: Path) -> None:
    path = folder / "chats.db"
    write_chats(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"chat 1, turn 3: Gr", b"chat 1, turn 8: Gr", 1))
    store = ChatStore(Database(path))
    (said,) = [warning for chat in store.list() for warning in store.open(chat.id).warnings]
    assert "changed outside this app" in said


def test_a_file_of_a_newer_version_is_not_touched_and_the_chat_goes_on(folder: Path) -> None:
    path = folder / "chats.db"
    write_chats(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    store = ChatStore(Database(path))
    transcript = store.create(model="toy")
    message = transcript.conversation.add("user", "one")
    for use in (store.list, lambda: transcript.append(message), transcript.retry):
        with pytest.raises(StoreError, match="newer llama-chat"):
            use()
    assert transcript.unsaved == [message]
    transcript.close()
    assert path.read_bytes() == before
    assert [one.name for one in folder.iterdir()] == [path.name]


def test_an_older_schema_is_brought_up_to_date_in_one_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import chat_app.store.database as database_module
    import chat_app.store.schema as schema

    path = folder / "chats.db"
    written = write_chats(path)
    failing = (*schema.MIGRATIONS, ("ALTER TABLE chat ADD COLUMN colour TEXT", "SELECT nothing_such"))
    working = (*schema.MIGRATIONS, ("ALTER TABLE chat ADD COLUMN colour TEXT",))
    monkeypatch.setattr(database_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    for migrations in (failing, working):
        schema._expected.cache_clear()
        monkeypatch.setattr(schema, "MIGRATIONS", migrations)
        store = ChatStore(Database(path, fill=lambda _: pytest.fail("what is there is not filled again")))
        if migrations is failing:
            with pytest.raises(StoreError, match="nothing_such"):
                store.list()
            continue
        assert readable(store) == (written, [])
        assert store.database.read(lambda c: c.execute("SELECT colour FROM chat").fetchone()) == (None,)
    schema._expected.cache_clear()
