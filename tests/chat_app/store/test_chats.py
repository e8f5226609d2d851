"""Chats in the database: what stands in the file, what comes back, what several windows do to each other."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.store.chats import ChatStore, StoreError, Transcript
from chat_app.store.database import Database


def chat(store: ChatStore, *turns: str, title: str = "", kind: str = "chat") -> Transcript:
    """A chat of alternating turns, open."""
    transcript = store.create(model="toy", title=title, kind=kind)
    for number, text in enumerate(turns):
        role = "assistant" if number % 2 else "user"
        transcript.append(transcript.conversation.add(role, text))  # type: ignore[arg-type]
    return transcript


def texts(transcript: Transcript) -> list[str]:
    return [message.content for message in transcript.conversation.path()]


def rows(store: ChatStore, question: str) -> list[tuple[object, ...]]:
    """What another program reads, on a connection of its own."""
    connection = sqlite3.connect(store.database.path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def test_nothing_is_on_disk_before_the_first_message(store: ChatStore) -> None:
    store.create(model="toy").close()
    assert store.list() == []
    assert store.latest() is None
    assert not store.database.path.parent.exists()


def test_what_append_returned_for_is_committed_with_a_full_sync(store: ChatStore) -> None:
    transcript = chat(store, "one")
    assert rows(store, "SELECT content FROM message") == [("one",)]
    assert rows(store, "PRAGMA journal_mode") == [("wal",)]
    assert store.database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL
    transcript.close()
    assert [path.name for path in store.database.path.parent.iterdir()] == ["chats.db"]


def test_each_detail_has_its_column_and_the_others_are_kept(store: ChatStore) -> None:
    transcript = chat(store)
    known = {
        "thought": "hm",
        "attachments": [{"name": "a.txt"}],
        "ids": [1, 2],
        "model": "toy",
        "model_sha256": "ab",
        "parameters": {"temperature": 0.5},
        "seed": 2**64 - 1,
        "stop_reason": "stop",
        "timings": {"prompt_ms": 1.5},
    }
    transcript.append(transcript.conversation.add("assistant", "hi", x={**known, "backend": "numpy"}))
    (row,) = rows(store, f"SELECT {', '.join(known)}, more FROM message")
    texts = {"thought", "model", "model_sha256", "stop_reason"}
    stored = [
        value if name in texts else json.loads(str(value)) for name, value in zip(known, row, strict=False)
    ]
    assert stored == list(known.values())
    assert json.loads(str(row[-1])) == {"backend": "numpy"}


def test_a_chat_comes_back_as_it_was(store: ChatStore) -> None:
    transcript = chat(store, "Grüße\n\x00\u2028 \ud800 </s>", "uno", "two")
    details = {"ids": [1, 2], "seed": 2**63, "timings": {"prompt_ms": 1.5}, "params": {"stop": ["\n"]}}
    transcript.append(transcript.conversation.add("assistant", "dos", status="stopped", x=details))
    transcript.conversation.edit(transcript.conversation.path()[0].id, "eins")
    transcript.append(transcript.conversation.path()[-1])
    transcript.remember("other")
    transcript.set_title("half \udfff title")
    transcript.close()
    again = store.open(transcript.id)
    assert list(again.conversation) == list(transcript.conversation)
    assert again.conversation.tip == transcript.conversation.tip
    assert again.conversation.title == "half \udfff title"
    assert again.details == transcript.details
    assert again.warnings == []


def test_the_branch_last_looked_at_is_shown_again(store: ChatStore) -> None:
    transcript = chat(store, "one", "uno", "two", "dos")
    transcript.conversation.select(transcript.conversation.path()[1].id)
    transcript.close()
    assert texts(store.open(transcript.id)) == ["one", "uno"]


def test_numbers_that_json_has_no_form_for_do_not_stop_a_message(store: ChatStore) -> None:
    import numpy as np

    odd = {"nan": float("nan"), "inf": [float("inf")], "n": np.int64(3), "f": np.float32(0.5), "t": (1, 2)}
    transcript = chat(store)
    transcript.append(transcript.conversation.add("user", "hi", x=odd))
    transcript.close()
    (message,) = store.open(transcript.id).conversation
    assert message.x == {"nan": None, "inf": [None], "n": 3, "f": 0.5, "t": [1, 2]}


def test_a_growing_reply_is_one_row(store: ChatStore) -> None:
    transcript = chat(store, "one")
    reply = transcript.conversation.add("assistant", "", status="partial")
    for text in ("a", "a b", "a b c"):
        transcript.checkpoint(replace(reply, content=text))
    (_, found) = store.open(transcript.id).conversation.path()
    assert (found.content, found.status) == ("a b c", "partial")
    assert store.list()[0].message_count == 2


def test_a_message_not_in_the_tree_yet_is_added_to_it(store: ChatStore) -> None:
    transcript = chat(store, "one")
    other = store.create(model="toy").conversation.add("user", "from elsewhere")
    transcript.append(other)
    assert transcript.conversation.tip == other.id


def test_the_file_and_its_folder_are_for_their_owner_alone(store: ChatStore) -> None:
    before = os.umask(0)
    try:
        chat(store, "one")
    finally:
        os.umask(before)
    folder = store.database.path.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"chats.db": 0o600, "chats.db-wal": 0o600, "chats.db-shm": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_ids_are_generated_and_never_taken_from_a_title(store: ChatStore) -> None:
    transcript = chat(store, "hello", title="../../etc/passwd\x1b[31m")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", transcript.id)
    assert store.list()[0].title == "../../etc/passwd\x1b[31m"


@pytest.mark.parametrize("name", ["../x", "", "' OR 1 --", "nothing", "20200101-000000-abcdef"])
def test_only_a_chat_of_the_store_can_be_named(store: ChatStore, name: str) -> None:
    chat(store, "one").close()
    for use in (store.open, store.delete, store.read, store.restore, store.pin):
        with pytest.raises(StoreError, match="no chat"):
            use(name)


def test_the_list_shows_titles_and_counts_pinned_first_then_newest(store: ChatStore) -> None:
    first = chat(store, "how  do\nI begin", "so")
    second = chat(store, "other", title="Second")
    third = chat(store, "third")
    for transcript in (third, first, second):
        transcript.append(transcript.conversation.add("user", "more"))
        transcript.close()
    found = store.list()
    assert [one.id for one in found] == [second.id, first.id, third.id]
    assert [one.title for one in found] == ["Second", "how do I begin", "third"]
    assert [one.message_count for one in found] == [2, 3, 2]
    assert store.latest() == found[0]
    store.pin(third.id)
    assert [one.id for one in store.list()] == [third.id, second.id, first.id]
    assert store.latest() == store.list()[1], "the latest is what was said last, pinned or not"
    store.pin(third.id, False)
    assert store.list() == found


def test_one_shot_runs_are_kept_apart(store: ChatStore) -> None:
    talk, run = chat(store, "talk"), chat(store, "run", kind="oneshot")
    assert [one.id for one in store.list()] == [talk.id]
    assert [one.id for one in store.list("oneshot")] == [run.id]
    assert {one.id for one in store.list(None)} == {talk.id, run.id}
    latest = store.latest()
    assert latest is not None
    assert latest.id == talk.id
    assert store.find(run.id) == run.id


def test_a_chat_is_found_by_the_beginning_or_end_of_its_id(store: ChatStore) -> None:
    first, second = chat(store, "one"), chat(store, "two")
    assert store.find(first.id) == first.id
    assert store.find(second.id[-8:]) == second.id
    with pytest.raises(StoreError, match="2 chats"):
        store.find(first.id[:2])  # the century: not the day, which may change between two chats
    with pytest.raises(StoreError, match="no chat"):
        store.find("zzz")


def test_two_windows_write_to_one_chat_each_on_its_branch(store: ChatStore) -> None:
    first = chat(store, "one")
    second = ChatStore(Database(store.database.path)).open(first.id)
    second.append(second.conversation.add("assistant", "from the second"))
    first.append(first.conversation.add("assistant", "from the first"))
    second.append(second.conversation.add("user", "go on"))
    second.close()
    first.close()
    again = store.open(first.id).conversation
    assert [message.content for message in again.children(again.path()[0].id)] == [
        "from the second",
        "from the first",
    ]
    assert again.leaf(again.children(again.path()[0].id)[0].id) == list(again)[-1].id


def test_a_deleted_chat_is_in_the_trash_until_it_is_restored_or_written_to(store: ChatStore) -> None:
    keep, gone = chat(store, "keep"), chat(store, "gone")
    store.delete(gone.id)
    assert [one.id for one in store.list()] == [keep.id]
    (trashed,) = store.list(deleted=True)
    assert trashed.id == gone.id
    assert trashed.deleted is not None
    store.restore(gone.id)
    assert len(store.list()) == 2
    store.delete(gone.id)
    gone.append(gone.conversation.add("user", "still here"))
    assert len(store.list()) == 2


def test_a_chat_removed_for_good_under_an_open_window_is_written_anew(store: ChatStore) -> None:
    transcript = chat(store, "one", "uno")
    store.remove(transcript.id)
    assert store.list() == []
    transcript.append(transcript.conversation.add("user", "two"))
    assert texts(store.open(transcript.id)) == ["one", "uno", "two"]


def test_a_file_removed_under_an_open_window_is_made_anew_with_all_messages(store: ChatStore) -> None:
    transcript = chat(store, "one", "uno")
    store.database.path.unlink()
    transcript.append(transcript.conversation.add("user", "two"))
    transcript.close()
    assert texts(ChatStore(Database(store.database.path)).open(transcript.id)) == ["one", "uno", "two"]


def test_a_file_replaced_under_an_open_window_gets_all_messages(store: ChatStore, tmp_path: Path) -> None:
    transcript = chat(store, "one", "uno")
    other = ChatStore(Database(tmp_path / "other.db"))
    theirs = chat(other, "theirs")
    theirs.close()
    for end in ("-wal", "-shm"):  # as a program that replaces such a file must
        store.database.path.with_name(f"chats.db{end}").unlink()
    os.replace(other.database.path, store.database.path)
    transcript.append(transcript.conversation.add("user", "two"))
    transcript.close()
    fresh = ChatStore(Database(store.database.path))
    assert texts(fresh.open(transcript.id)) == ["one", "uno", "two"]
    assert texts(fresh.open(theirs.id)) == ["theirs"]


def test_a_new_title_is_kept(store: ChatStore) -> None:
    transcript = chat(store, "one")
    transcript.set_title("New")
    assert store.list()[0].title == "New"
    transcript.close()
    store.rename(transcript.id, "Newer")
    assert store.open(transcript.id).conversation.title == "Newer"


async def test_what_befell_the_file_stays_on_the_screen_while_the_chat_goes_on(store: ChatStore) -> None:
    from chat_app.chat.saver import Saver

    told: list[str | None] = []
    transcript = chat(store, "one")
    saver = Saver(transcript, told.append)
    assert await saver.append(transcript.conversation.add("assistant", "uno"))
    assert told == []
    store.close()
    store.database.path.write_bytes(bytes(100) + store.database.path.read_bytes()[100:])
    for text in ("two", "three"):
        assert await saver.append(transcript.conversation.add("user", text))
    assert len(told) == 1
    assert "was damaged" in str(told[0])
    assert texts(store.open(transcript.id)) == ["one", "uno", "two", "three"]
