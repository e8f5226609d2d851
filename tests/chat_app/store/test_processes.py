"""faults.md rows 11 and 15 with real processes: kill -9 while streaming, and four instances at once."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat_app.store.prompt_history import PromptHistory
from chat_app.store.transcript_records import read_records
from chat_app.store.transcripts import TranscriptStore

CHILD = Path(__file__).with_name("child_writer.py")
HANG_S = 60


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)], stdout=subprocess.PIPE, env=environment
    )


def kill_while_streaming(root: Path, chat_id: str, rng: random.Random) -> list[dict[str, str]]:
    """Kill a child at a moment of chance while it talks; what it had acknowledged when it died."""
    child = start("stream", root, chat_id)
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


def run_kills(root: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    promised: dict[str, dict[str, str]] = {}
    chat_id = "-"
    for number in range(count):
        if number % 20 == 0:
            chat_id, promised = "-", {}
        for said in kill_while_streaming(root, chat_id, rng):
            chat_id = said.get("chat", chat_id)
            if "id" in said:
                promised[said["id"]] = said
        store = TranscriptStore(root)
        if chat_id not in store.ids():
            assert not promised
            chat_id = "-"
            continue
        transcript = store.open(chat_id)
        assert not transcript.read_only, "a killed writer must not keep its lock"
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
    run_kills(tmp_path / "chats", 10, seed=11)


@pytest.mark.slow
def test_kill_9_two_hundred_times(tmp_path: Path) -> None:
    run_kills(tmp_path / "chats", 200, seed=12)


def finish(children: list[subprocess.Popen[bytes]]) -> list[bytes]:
    try:
        return [child.communicate(timeout=HANG_S * 10)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


def four_into_one_chat(root: Path, each: int) -> None:
    store = TranscriptStore(root)
    first = store.create(model="toy")
    first.append(first.conversation.add("user", "begin"))
    first.close()
    said = finish([start("turns", root, first.id, name, str(each)) for name in "abcd"])
    data = (first.folder / "messages.jsonl").read_bytes()
    records, damage = read_records(data)
    assert damage.warnings == ()
    assert data.count(b"\n") == len(records) == 4 * each + 1
    acknowledged = {line["id"]: line["content"] for out in said for line in map(json.loads, out.splitlines())}
    found = {record.message.id: record.message.content for record in records[1:]}
    assert found == acknowledged
    assert len(found) == 4 * each
    for name in "abcd":
        numbers = [int(text.split()[1]) for text in found.values() if text.startswith(name)]
        assert numbers == list(range(each))
    assert not list(first.folder.glob("messages.jsonl.*"))


def four_into_one_history(path: Path, each: int) -> None:
    for child in (children := [start("prompts", path, name, str(each)) for name in "abcd"]):
        assert child.wait(HANG_S * 10) == 0
    finish(children)
    prompts = PromptHistory(path, limit=4 * each).prompts
    assert sorted(prompts) == sorted(
        f"{name} {number} " + name * 300 for name in "abcd" for number in range(each)
    )


def test_four_instances_write_one_chat_in_turn(tmp_path: Path) -> None:
    four_into_one_chat(tmp_path / "chats", 25)


def test_four_instances_share_the_prompt_history(tmp_path: Path) -> None:
    four_into_one_history(tmp_path / "prompts.jsonl", 50)


@pytest.mark.slow
def test_four_instances_write_two_thousand_messages(tmp_path: Path) -> None:
    four_into_one_chat(tmp_path / "chats", 500)


@pytest.mark.slow
def test_four_instances_write_two_thousand_prompts(tmp_path: Path) -> None:
    four_into_one_history(tmp_path / "prompts.jsonl", 500)
