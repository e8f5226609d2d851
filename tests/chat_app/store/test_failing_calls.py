"""faults.md row 13: whichever system call fails, the app hears of it, nothing is lost, and a retry works."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.store.file_system import FileSystem
from chat_app.store.transcripts import TranscriptError, TranscriptStore


class Talk:
    """What a user does in a chat while the disk misbehaves; every failure is met by going on."""

    def __init__(self, root: Path, disk: Any) -> None:
        self.store = TranscriptStore(root, disk)
        self.disk = disk
        self.failures = 0
        self.said: dict[str, str] = {}

    def save(self, transcript: Any, message: Any) -> None:
        self.said[message.id] = message.content
        try:
            transcript.append(message)
        except TranscriptError as error:
            self.failures += 1
            sentence = str(error)
        else:
            return
        assert sentence.endswith(".")
        assert message in transcript.conversation.path()
        assert message in transcript.unsaved

    def turns(self, transcript: Any) -> None:
        chat = transcript.conversation
        self.save(transcript, chat.add("user", "a question with some words"))
        reply = chat.add("assistant", "", status="partial")
        for text in ("half of the", "half of the answer"):
            self.save(transcript, replace(reply, content=text))
        self.save(transcript, replace(reply, content="half of the answer and its end", status="complete"))
        with contextlib.suppress(TranscriptError):
            transcript.set_title("A title")
        self.save(transcript, chat.add("user", "thanks"))

    def finish(self, transcript: Any) -> None:
        self.disk.heal()
        transcript.retry()
        assert transcript.unsaved == []
        transcript.close()

    def run(self, chat_id: str | None) -> str:
        if chat_id is None:
            transcript = self.store.create(model="toy")
        else:
            try:
                transcript = self.store.open(chat_id)
            except TranscriptError:
                self.disk.heal()
                transcript = self.store.open(chat_id)
        self.turns(transcript)
        self.finish(transcript)
        return transcript.id


def check(root: Path, chat_id: str, said: dict[str, str], quick: FileSystem) -> None:
    """On the sound disk every word is there, in a file that needs no mending."""
    again = TranscriptStore(root, quick).open(chat_id)
    found = {message.id: message.content for message in again.conversation}
    assert {message_id: found.get(message_id) for message_id in said} == said
    assert again.warnings == []
    again.close()


@pytest.mark.parametrize("begin", ["new", "sound", "torn", "damaged"])
def test_every_nth_call_may_fail(
    tmp_path: Path, faulty_file_system: Any, quick: FileSystem, fault: str, begin: str
) -> None:
    # Once, or from then on until the disk is well again; only a signal cannot interrupt for ever.
    for lasting in (False, True) if fault != "EINTR" else (False,):
        nth = failures = 0
        while True:
            nth += 1
            root = tmp_path / f"{nth}-{lasting}" / "chats"
            disk = faulty_file_system(nth, fault, lasting)
            talk = Talk(root, disk)
            chat_id = talk.run(prepare(root, begin, talk.said, quick))
            check(root, chat_id, talk.said, quick)
            failures += talk.failures
            if disk.happened is None:
                break
        assert nth > 40
        assert bool(failures) == (fault != "EINTR")


def prepare(root: Path, begin: str, said: dict[str, str], quick: FileSystem) -> str | None:
    """A chat written before the disk went bad; one line of it damaged where the case asks for it."""
    if begin == "new":
        return None
    transcript = TranscriptStore(root, quick).create(model="toy")
    for text in ("kept", "damaged", "kept too"):
        message = transcript.conversation.add("user", text)
        transcript.append(message)
        if text != "damaged":
            said[message.id] = text
    transcript.close()
    path = transcript.folder / "messages.jsonl"
    if begin == "torn":
        path.write_bytes(path.read_bytes() + b'{"role":"user","content":"never fin')
    elif begin == "damaged":
        path.write_bytes(path.read_bytes().replace(b'"damaged"', b'damaged"'))
    return transcript.id


def test_a_full_disk_is_said_and_the_chat_goes_on(tmp_path: Path, faulty_file_system: Any) -> None:
    disk = faulty_file_system(1, "ENOSPC", lasting=True)
    transcript = TranscriptStore(tmp_path / "chats", disk).create(model="toy")
    with pytest.raises(TranscriptError, match="not saved: no space left on device"):
        transcript.append(transcript.conversation.add("user", "one"))
    with pytest.raises(TranscriptError, match="not saved"):
        transcript.append(transcript.conversation.add("user", "two"))
    disk.heal()
    transcript.append(transcript.conversation.add("user", "three"))
    transcript.close()
    again = TranscriptStore(tmp_path / "chats").open(transcript.id)
    assert [message.content for message in again.conversation.path()] == ["one", "two", "three"]


def test_closing_tries_once_more(tmp_path: Path, faulty_file_system: Any) -> None:
    disk = faulty_file_system(1, "ENOSPC", lasting=True)
    store = TranscriptStore(tmp_path / "chats", disk)
    transcript = store.create(model="toy")
    with pytest.raises(TranscriptError):
        transcript.append(transcript.conversation.add("user", "one"))
    transcript.close()
    assert len(transcript.unsaved) == 1
    disk.heal()
    transcript.close()
    assert transcript.unsaved == []
    assert [message.content for message in store.read(transcript.id)] == ["one"]


def test_a_chat_on_a_read_only_disk_can_be_read(
    tmp_path: Path, faulty_file_system: Any, quick: FileSystem
) -> None:
    chat_id = prepare(tmp_path, "sound", {}, quick)
    disk = faulty_file_system(1, "EROFS")  # the lock file is the first thing opened
    transcript = TranscriptStore(tmp_path, disk).open(str(chat_id))
    assert transcript.read_only
    assert "read-only file system" in transcript.warnings[0]
    assert len(transcript.conversation) == 3
