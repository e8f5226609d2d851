"""faults.md rows 11 and 15 with real processes: kills while streaming, four windows, a locked file."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.store.chats import ChatStore, StoreError
from chat_app.store.database import Database
from chat_app.store.prompts import PromptHistory

CHILD = Path(__file__).with_name("child_writer.py")
HANG_S = 60


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, **options)


def kill_while_streaming(path: Path, chat_id: str, rng: random.Random) -> list[dict[str, str]]:
    """Kill a child at a moment of chance while it talks; what it had acknowledged when it died."""
    child = start("stream", path, chat_id)
    assert child.stdout is not None
    with child, child.stdout as pipe:
        ready, _, _ = select.select([pipe], [], [], HANG_S)
        assert ready, "the child said nothing"
        acknowledged = b"".join(pipe.readline() for _ in range(rng.randint(1, 40)))
        time.sleep(rng.random() * 0.003)
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += pipe.read()
    # The last line of a pipe may be cut: what it said was not heard, so nobody relies on it.
    return [json.loads(line) for line in acknowledged.split(b"\n")[:-1]]


def run_kills(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    promised: dict[str, dict[str, str]] = {}
    chat_id = "-"
    for number in range(count):
        if number % 20 == 0:
            chat_id, promised = "-", {}
        for said in kill_while_streaming(path, chat_id, rng):
            chat_id = said.get("chat", chat_id)
            if "id" in said:
                promised[said["id"]] = said
        store = ChatStore(Database(path))
        if chat_id not in {chat.id for chat in store.list()}:
            assert not promised
            chat_id = "-"
            continue
        transcript = store.open(chat_id)
        assert (transcript.warnings, store.database.notices) == ([], []), f"seed {seed}, kill {number}"
        found = {message.id: message for message in transcript.conversation}
        for message_id, said in promised.items():
            assert message_id in found, f"seed {seed}, kill {number}: a message is lost"
            kept = found[message_id]
            assert kept.content.startswith(said["content"]), f"seed {seed}, kill {number}: text is lost"
            assert kept.status in (said["status"], "complete"), "a reply cut off is marked as partial"
        for message in found.values():
            whole = message.role == "user" or message.content.endswith("the end")
            assert message.status == ("complete" if whole else "partial"), f"seed {seed}, kill {number}"
        # The path from the root to the end is the conversation, whole.
        assert [message.id for message in transcript.conversation.path()] == list(found)
        transcript.close()


def test_kill_9_while_streaming_loses_nothing_acknowledged(tmp_path: Path) -> None:
    run_kills(tmp_path / "chats.db", 10, seed=11)


@pytest.mark.slow
def test_kill_9_two_hundred_times(tmp_path: Path) -> None:
    run_kills(tmp_path / "chats.db", 200, seed=12)


def finish(children: list[subprocess.Popen[bytes]]) -> list[bytes]:
    try:
        found = [child.communicate(timeout=HANG_S * 10)[0] for child in children]
        assert [child.returncode for child in children] == [0] * len(children)
        return found
    finally:
        for child in children:
            child.kill()
            child.wait()


def four_into_one_chat(path: Path, each: int) -> None:
    store = ChatStore(Database(path))
    first = store.create(model="toy")
    first.append(first.conversation.add("user", "begin"))
    first.close()
    said = finish([start("turns", path, first.id, name, str(each)) for name in "abcd"])
    acknowledged = {line["id"]: line["content"] for out in said for line in map(json.loads, out.splitlines())}
    again = store.open(first.id)
    assert again.warnings == []
    found = {message.id: message.content for message in list(again.conversation)[1:]}
    assert found == acknowledged
    assert len(found) == 4 * each
    for name in "abcd":
        numbers = [int(text.split()[1]) for text in found.values() if text.startswith(name)]
        assert numbers == list(range(each))


def four_into_one_history(path: Path, each: int) -> None:
    finish([start("prompts", path, name, str(each)) for name in "abcd"])
    prompts = PromptHistory(Database(path), limit=4 * each).prompts
    assert sorted(prompts) == sorted(
        f"{name} {number} " + name * 300 for name in "abcd" for number in range(each)
    )


def test_four_windows_write_one_chat_at_once(tmp_path: Path) -> None:
    four_into_one_chat(tmp_path / "chats.db", 25)


def test_four_windows_share_the_prompt_history(tmp_path: Path) -> None:
    four_into_one_history(tmp_path / "chats.db", 50)


@pytest.mark.slow
def test_four_windows_write_two_thousand_messages(tmp_path: Path) -> None:
    four_into_one_chat(tmp_path / "chats.db", 500)


@pytest.mark.slow
def test_four_windows_write_two_thousand_prompts(tmp_path: Path) -> None:
    four_into_one_history(tmp_path / "chats.db", 250)


@pytest.fixture
def locked(store: ChatStore) -> Iterator[subprocess.Popen[bytes]]:
    """A program that holds the file of `store`, which is there, until its stdin is closed."""
    store.database.write(lambda _: None)
    child = start("hold", store.database.path, stdin=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child
        child.kill()


def test_a_file_locked_for_long_is_said_and_the_chat_goes_on_until_it_is_free(
    store: ChatStore, locked: subprocess.Popen[bytes]
) -> None:
    transcript = store.create(model="toy")
    message = transcript.conversation.add("user", "one")
    with pytest.raises(StoreError, match=r"The message is not saved: another program has .*chats\.db locked"):
        transcript.append(message)
    assert transcript.unsaved == [message]
    assert store.list() == [], "reading does not wait for who writes"
    assert locked.stdin is not None
    locked.stdin.close()
    locked.wait(HANG_S)
    second = transcript.conversation.add("assistant", "uno")
    transcript.append(second)
    assert transcript.unsaved == []
    assert list(store.read(transcript.id)) == [message, second]


def test_leaving_does_not_wait_for_a_locked_file_for_long(
    store: ChatStore, locked: subprocess.Popen[bytes]
) -> None:
    transcript = store.create(model="toy")
    transcript.conversation.add("user", "one")
    begun = time.monotonic()
    with pytest.raises(StoreError):
        transcript.append(transcript.conversation.path()[0])
    transcript.close()
    assert transcript.unsaved
    # Two attempts of a second each; the bound is loose, for a hang is what it finds.
    assert time.monotonic() - begun < HANG_S / 2


@pytest.mark.skipif(os.name == "nt", reason="folders have no such mode there")
def test_in_a_folder_that_cannot_be_written_chats_are_read_and_the_rest_is_said() -> None:
    # Not below pytest's own folder, which another user may not enter.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        folder = Path(root) / "data"
        store = ChatStore(Database(folder / "chats.db"))
        transcript = store.create(model="toy")
        transcript.append(transcript.conversation.add("user", "one"))
        transcript.close()
        (folder / "chats.db").chmod(0o444)
        folder.chmod(0o555)
        try:
            (out,) = finish([start("read", folder / "chats.db", transcript.id)])
        finally:
            folder.chmod(0o700)
    found = json.loads(out)
    assert found["texts"] == ["one", "one more"], "it goes on in memory"
    assert found["problem"].startswith("The message is not saved: ")
    assert "cannot be written" in found["problem"]
