"""What version 0.1 left is taken over when chats.db is made: once, whole, and without a change to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from chat_app.config.paths import Paths
from chat_app.store.chats import ChatStore, StoreError, open_store
from chat_app.store.prompts import Drafts, PromptHistory
from tests.support.full_disk import files_end_at

CHAT = "20261123-120501-9f3a1c07"


def line(identity: str, parent: str | None, role: str, content: str, **details: Any) -> str:
    ours = {"id": identity, "parent": parent, "time": f"2026-11-23T12:05:0{identity}Z", "status": "complete"}
    return json.dumps({"role": role, "content": content, "x": {**ours, **details, "crc": "00000000"}})


LINES = [
    line("1", None, "user", "Grüße"),
    line("2", "1", "assistant", "half", status="partial"),
    line("2", "1", "assistant", "half and whole", ids=[1, 2], seed=7),
    line("3", "1", "assistant", "another"),
]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(*(tmp_path / name for name in ("config", "data", "state", "cache")))


@pytest.fixture
def old(paths: Paths) -> Paths:
    """A home as 0.1 left it."""
    folder = paths.data / "chats" / CHAT
    folder.mkdir(parents=True)
    (folder / "messages.jsonl").write_text("\n".join(LINES) + "\n")
    meta = {"title": "Greetings", "model": "smollm2", "created": "2026-11-23T12:05:01Z", "tip": "2"}
    (folder / "meta.json").write_text(json.dumps(meta))
    (paths.state / "drafts").mkdir(parents=True)
    (paths.state / "drafts" / f"{CHAT}.txt").write_text("half a thought")
    (paths.state / "prompts.jsonl").write_text('{"prompt": "one", "time": "t"}\n{"prompt": "two"}\n')
    return paths


def contents(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith("chats.db")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_chats_prompts_and_drafts_are_taken_over(old: Paths) -> None:
    before = contents(old.data.parent)
    store = open_store(old)
    (chat,) = store.list()
    assert (chat.id, chat.title, chat.model, chat.message_count) == (CHAT, "Greetings", "smollm2", 3)
    assert (chat.created, chat.updated) == ("2026-11-23T12:05:01Z", "2026-11-23T12:05:03Z")
    transcript = store.open(CHAT)
    assert transcript.warnings == []
    assert [message.content for message in transcript.conversation.path()] == ["Grüße", "half and whole"]
    reply = transcript.conversation.get("2")
    assert (reply.status, reply.x) == ("complete", {"ids": [1, 2], "seed": 7})
    assert [message.content for message in transcript.conversation.children("1")] == [
        "half and whole",
        "another",
    ]
    assert len(store.search(store.list(), "whole")) == 1
    assert PromptHistory(store.database).prompts == ["one", "two"]
    assert Drafts(store.database).load(CHAT) == "half a thought"
    assert contents(old.data.parent) == before, "the folders stay as they were"


def test_they_are_taken_over_once(old: Paths) -> None:
    store = open_store(old)
    store.remove(CHAT)
    other = old.old_chats / "20261124-120501-9f3a1c07"
    other.mkdir()
    (other / "messages.jsonl").write_text(LINES[0])
    assert open_store(old).list() == []


def test_writing_first_takes_them_over_as_well(old: Paths) -> None:
    store = open_store(old)
    assert Drafts(store.database).load(CHAT) == "", "the first paint does not wait for it"
    assert Drafts(store.database).save("new", "typed at once")
    assert [chat.id for chat in store.list()] == [CHAT]
    assert PromptHistory(store.database).prompts == ["one", "two"]


def test_without_an_old_home_nothing_is_made(paths: Paths) -> None:
    assert open_store(paths).list() == []
    assert not paths.data.exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"[" * 200_000,
        b'{"role":"tool","content":"x"}',
        b'{"role":"user","content":null}',
        b"\xff\xfe\0",
        b'"x"',
    ],
)
def test_what_cannot_be_read_is_left_out(old: Paths, damage: bytes) -> None:
    path = old.old_chats / CHAT / "messages.jsonl"
    others = path.read_bytes().splitlines(keepends=True)[1:]
    path.write_bytes(damage + b"\n" + b"".join(others))
    (path.parent / "meta.json").write_bytes(damage)
    (old.old_chats / "20260101-000000-abcdef").mkdir()
    (old.old_chats / "not a chat").mkdir()
    (old.state / "prompts.jsonl").write_bytes(damage + b'\n{"prompt": "good"}\n')
    (old.state / "drafts" / "new.txt").write_bytes(b"\xff\xfe")
    store = open_store(old)
    (chat,) = store.list(None)
    texts = [message.content for message in store.read(chat.id)]
    assert texts == ["half and whole", "another"]
    assert PromptHistory(store.database).prompts == ["good"]


def test_a_line_of_another_program_is_the_next_message(old: Paths) -> None:
    with (old.old_chats / CHAT / "messages.jsonl").open("ab") as file:
        file.write(b'{"role": "assistant", "content": "by hand"}\r\n\n{"content":"two","role":"user"}')
    (old.old_chats / CHAT / "meta.json").unlink()
    path = open_store(old).read(CHAT).path()
    assert [message.content for message in path] == ["Grüße", "another", "by hand", "two"]


def test_a_disk_that_is_full_leaves_nothing_half_taken_over(old: Paths) -> None:
    with files_end_at(60_000), pytest.raises(StoreError):
        open_store(old).list()
    store: ChatStore = open_store(old)
    assert [chat.id for chat in store.list()] == [CHAT]
    assert PromptHistory(store.database).prompts == ["one", "two"]
