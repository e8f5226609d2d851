"""faults.md row 13: the disk is full at any point of a write. Nothing acknowledged is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.store.chats import ChatStore, StoreError, Transcript
from chat_app.store.database import Database
from chat_app.store.prompts import Drafts, PromptHistory
from tests.support.full_disk import files_end_at


def talk(transcript: Transcript) -> tuple[set[str], set[str]]:
    """A question and a reply that grows; what was said of failures, and the ids that were acknowledged."""
    said: set[str] = set()
    acknowledged: set[str] = set()
    question = transcript.conversation.add("user", "one " * 200)
    reply = transcript.conversation.add("assistant", "", status="partial")
    states = [replace(reply, content="word " * 300 * count) for count in range(1, 4)]
    for message in (question, *states, replace(states[-1], status="complete")):
        try:
            transcript.append(message)
            acknowledged.add(message.id)
        except StoreError as error:
            said.add(str(error))
            kept = message in transcript.unsaved
            assert kept
    return said, acknowledged


@pytest.mark.parametrize("new", [True, False])
def test_every_size_at_which_the_disk_may_be_full(tmp_path: Path, new: bool) -> None:
    seen: set[str] = set()
    for number, size in enumerate(range(0, 400_000, 22_007)):
        store = ChatStore(Database(tmp_path / f"{number}.db"))
        if not new:
            other = store.create(model="toy")
            other.append(other.conversation.add("user", "there before"))
            other.close()
        transcript = store.create(model="toy")
        with files_end_at(size):
            said, acknowledged = talk(transcript)
            if acknowledged:
                fresh = ChatStore(Database(store.database.path)).read(transcript.id)
                assert acknowledged <= {message.id for message in fresh}
        seen |= said or {"all is well"}
        transcript.retry()
        transcript.close()
        assert transcript.unsaved == []
        assert list(store.read(transcript.id)) == list(transcript.conversation), size
        assert len(store.list()) == (1 if new else 2)
        assert store.database.notices == [], "a full disk is no damage"
    assert "all is well" in seen
    assert "The message is not saved: the disk reports an error (SQLITE_IOERR_WRITE)." in seen
    assert all(one.startswith("The message is not saved: ") for one in seen - {"all is well"})


def test_a_database_that_may_not_grow_says_so(store: ChatStore) -> None:
    transcript = store.create(model="toy")
    transcript.append(transcript.conversation.add("user", "one"))
    store.database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone())
    message = transcript.conversation.add("user", "two " * 10_000)
    with pytest.raises(StoreError, match="The message is not saved: no space left on device"):
        transcript.append(message)
    assert transcript.unsaved == [message]
    transcript.retry()
    assert store.read(transcript.id).get(message.id) == message


def test_prompts_and_drafts_wait_for_room(database: Database) -> None:
    history, drafts = PromptHistory(database), Drafts(database)
    with files_end_at(0):
        assert history.add("one") is False
        assert drafts.save("new", "half a thought") is False
        assert history.older("") == "one"
    assert history.add("two")
    assert drafts.save("new", "half a thought")
    assert PromptHistory(database).prompts == ["one", "two"]
    assert drafts.load("new") == "half a thought"


def test_a_rebuilding_that_finds_no_room_leaves_the_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    path.write_bytes(b"damaged " * 2000)
    store = ChatStore(Database(path))
    with files_end_at(4096), pytest.raises(StoreError, match="The chats could not be read"):
        store.list()
    assert path.read_bytes() == b"damaged " * 2000
    assert not list(tmp_path.glob("*.new-*"))
    assert store.list() == []
    assert len(store.database.notices) == 1
