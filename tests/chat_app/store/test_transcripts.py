"""Chats on disk: what stands in the files, what comes back, and who may write."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.store.transcripts import Transcript, TranscriptError, TranscriptStore


@pytest.fixture
def store(tmp_path: Path) -> TranscriptStore:
    return TranscriptStore(tmp_path / "data" / "chats")


def chat(store: TranscriptStore, *turns: str, title: str = "") -> Transcript:
    """A chat of alternating turns, open."""
    transcript = store.create(model="toy", title=title)
    say(transcript, *turns)
    return transcript


def say(transcript: Transcript, *turns: str) -> None:
    for number, text in enumerate(turns):
        role = "assistant" if number % 2 else "user"
        transcript.append(transcript.conversation.add(role, text))  # type: ignore[arg-type]


def texts(transcript: Transcript) -> list[str]:
    return [message.content for message in transcript.conversation.path()]


def lines(transcript: Transcript) -> list[dict[str, object]]:
    return [json.loads(line) for line in (transcript.folder / "messages.jsonl").read_bytes().splitlines()]


def test_nothing_is_on_disk_before_the_first_message(store: TranscriptStore) -> None:
    store.create(model="toy").close()
    assert store.list() == []
    assert store.latest() is None
    assert not store.root.parent.exists()


def test_each_line_is_an_openai_message_with_ours_under_one_key(store: TranscriptStore) -> None:
    transcript = chat(store)
    transcript.append(transcript.conversation.add("user", "Grüße\n\x00\u2028 \ud800 </s>", x={"n": 1}))
    (line,) = lines(transcript)
    assert list(line) == ["role", "content", "x"]
    assert (line["role"], line["content"]) == ("user", "Grüße\n\x00\u2028 \ud800 </s>")
    assert list(line["x"]) == ["id", "parent", "time", "status", "n", "crc"]  # type: ignore[call-overload]


def test_a_chat_comes_back_as_it_was(store: TranscriptStore) -> None:
    transcript = chat(store, "one", "uno", "two")
    details = {"ids": [1, 2], "seed": 2**63, "timings": {"prompt_ms": 1.5}, "params": {"stop": ["\n"]}}
    transcript.append(transcript.conversation.add("assistant", "dos", status="stopped", x=details))
    transcript.conversation.edit(transcript.conversation.path()[0].id, "eins")
    transcript.append(transcript.conversation.path()[-1])
    transcript.close()
    again = store.open(transcript.id)
    assert list(again.conversation) == list(transcript.conversation)
    assert again.conversation.tip == transcript.conversation.tip
    assert (again.warnings, again.read_only, again.model) == ([], False, "toy")


def test_the_branch_last_looked_at_is_shown_again(store: TranscriptStore) -> None:
    transcript = chat(store, "one", "uno", "two", "dos")
    transcript.conversation.select(transcript.conversation.path()[1].id)
    transcript.close()
    assert texts(store.open(transcript.id)) == ["one", "uno"]


def test_numbers_that_json_has_no_form_for_do_not_stop_a_message(store: TranscriptStore) -> None:
    import numpy as np

    odd = {"nan": float("nan"), "inf": [float("inf")], "n": np.int64(3), "f": np.float32(0.5), "t": (1, 2)}
    transcript = chat(store)
    transcript.append(transcript.conversation.add("user", "hi", x=odd))
    transcript.close()
    (message,) = store.open(transcript.id).conversation
    assert message.x == {"nan": None, "inf": [None], "n": 3, "f": 0.5, "t": [1, 2]}


def test_the_last_checkpoint_of_a_reply_counts(store: TranscriptStore) -> None:
    transcript = chat(store, "one")
    reply = transcript.conversation.add("assistant", "", status="partial")
    for text in ("a", "a b", "a b c"):
        transcript.checkpoint(replace(reply, content=text))
    transcript.close()
    (_, found) = store.open(transcript.id).conversation.path()
    assert (found.content, found.status) == ("a b c", "partial")
    assert store.list()[0].message_count == 2


def test_a_message_not_in_the_tree_yet_is_added_to_it(store: TranscriptStore) -> None:
    transcript = chat(store, "one")
    other = store.create(model="toy").conversation.add("user", "from elsewhere")
    transcript.append(other)
    assert transcript.conversation.tip == other.id


def test_files_and_folders_are_for_their_owner_alone(store: TranscriptStore) -> None:
    transcript = chat(store, "one")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in transcript.folder.iterdir()}
    assert modes == {"messages.jsonl": 0o600, "meta.json": 0o600, "lock": 0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (store.root, transcript.folder)} == {0o700}


def test_a_title_never_becomes_a_file_name(store: TranscriptStore) -> None:
    transcript = chat(store, "hello", title="../../etc/passwd\x1b[31m")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", transcript.id)
    assert store.list()[0].title == "../../etc/passwd\x1b[31m"


@pytest.mark.parametrize(
    "name", ["../x", "", "20261123-120000-abcdef/../..", "nothing", "20200101-000000-abcdef"]
)
def test_only_a_chat_of_the_store_can_be_named(store: TranscriptStore, name: str) -> None:
    chat(store, "one").close()
    for use in (store.open, store.delete, store.read):
        with pytest.raises(TranscriptError, match="no chat"):
            use(name)


def test_the_list_shows_titles_and_counts_newest_first(store: TranscriptStore) -> None:
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


@pytest.mark.parametrize("meta", [b"", b"\0\0\0", b"[1]", b'{"bytes": -1}', b"\xff", b"[" * 100_000, None])
def test_a_damaged_meta_file_loses_only_the_title(store: TranscriptStore, meta: bytes | None) -> None:
    transcript = chat(store, "one", "uno", title="Spanish")
    transcript.close()
    (transcript.folder / "meta.json").unlink()
    if meta is not None:
        (transcript.folder / "meta.json").write_bytes(meta)
    (summary,) = store.list()
    assert (summary.title, summary.message_count) == ("one", 2)
    again = store.open(transcript.id)
    assert texts(again) == ["one", "uno"]
    again.set_title("New")
    again.close()
    assert store.list()[0].title == "New"


def test_a_chat_is_found_by_the_beginning_or_end_of_its_id(store: TranscriptStore) -> None:
    first, second = chat(store, "one"), chat(store, "two")
    assert store.find(first.id) == first.id
    assert store.find(second.id[-8:]) == second.id
    with pytest.raises(TranscriptError, match="2 chats"):
        store.find(first.id[:2])  # the century: not the day, which may change between two chats
    with pytest.raises(TranscriptError, match="no chat"):
        store.find("zzz")


def test_the_second_to_open_a_chat_reads_and_takes_over_when_the_first_has_left(
    store: TranscriptStore,
) -> None:
    first = chat(store, "one")
    second = store.open(first.id)
    assert second.read_only
    assert second.warnings == ["This chat is open in another window, so it is read-only here."]
    mine = second.conversation.add("user", "from the second")
    with pytest.raises(TranscriptError, match="another window"):
        second.append(mine)
    assert second.unsaved == [mine]
    first.append(first.conversation.add("assistant", "uno"))
    first.close()
    second.retry()
    assert (second.unsaved, second.read_only) == ([], False)
    second.close()
    again = store.open(first.id).conversation
    assert [message.content for message in again] == ["one", "uno", "from the second"]
    assert [message.content for message in again.children(again.path()[0].id)] == ["uno", "from the second"]


def test_a_deleted_chat_is_gone_but_an_open_one_is_kept(store: TranscriptStore) -> None:
    keep, gone = chat(store, "keep"), chat(store, "gone")
    gone.close()
    with pytest.raises(TranscriptError, match="open"):
        store.delete(keep.id)
    store.delete(gone.id)
    assert [one.id for one in store.list()] == [keep.id]
    assert [path.name for path in store.root.iterdir()] == [keep.id]


def test_a_chat_whose_folder_was_removed_is_written_anew(store: TranscriptStore) -> None:
    import shutil

    transcript = chat(store, "one", "uno")
    shutil.rmtree(transcript.folder)
    with pytest.raises(TranscriptError, match="vanished"):
        transcript.append(transcript.conversation.add("user", "two"))
    transcript.retry()
    transcript.close()
    assert texts(store.open(transcript.id)) == ["one", "uno", "two"]


def test_a_line_of_another_program_is_read_as_the_next_message(store: TranscriptStore) -> None:
    transcript = chat(store, "one")
    transcript.close()
    with (transcript.folder / "messages.jsonl").open("ab") as file:
        file.write(b'{"role": "assistant", "content": "by hand"}\r\n\n{"content":"two","role":"user"}')
    again = store.open(transcript.id)
    assert (texts(again), again.warnings) == (["one", "by hand", "two"], [])
    again.append(again.conversation.add("assistant", "dos"))
    again.close()
    assert texts(store.open(transcript.id)) == ["one", "by hand", "two", "dos"]
