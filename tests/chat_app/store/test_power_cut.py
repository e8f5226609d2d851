"""faults.md row 12: no acknowledged message is lost when the power goes, wherever it goes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.store.transcripts import TranscriptStore

SEED = 20261123


def session(store: TranscriptStore, disk: Any, rng: random.Random) -> None:
    """One run of the app: open the chat there is (or begin one) and talk; say what was acknowledged."""
    ids = store.ids()
    chat = store.open(ids[0]) if ids and rng.random() < 0.9 else store.create(model="toy")
    for turn in range(rng.randint(1, 3)):
        question = chat.conversation.add("user", f"question {turn} " + "é" * rng.randint(0, 40))
        chat.append(question)
        disk.acknowledge(question.id, question.content)
        reply = chat.conversation.add("assistant", "", status="partial")
        for _ in range(rng.randint(0, 3)):
            reply = replace(reply, content=reply.content + "some words ")
            chat.checkpoint(reply)
            disk.acknowledge(reply.id, reply.content)
        if rng.random() < 0.7:
            reply = replace(reply, content=reply.content + "the end", status="complete")
            chat.append(reply)
            disk.acknowledge(reply.id, reply.content)
        if rng.random() < 0.3:
            chat.set_title(f"title {turn}")
    chat.close()


def run_cuts(count: int, seed: int, folder: Path, disk_class: Any) -> None:
    """`count` cuts in chains: each session starts from the disk that the cut before it left."""
    rng = random.Random(seed)
    base, promised = folder / "start", dict[str, str]()
    base.mkdir()
    for number in range(count):
        if number % 8 == 0:
            base, promised = folder / f"chain-{number}", {}
            base.mkdir()
        disk = disk_class(base)
        session(TranscriptStore(base / "chats", disk), disk, rng)
        at = rng.randint(0, len(disk.events))
        promised |= disk.acknowledged(at)
        base = folder / f"after-{number}"
        base.mkdir()
        disk.cut(at, rng, base)
        store = TranscriptStore(base / "chats")
        found = {message.id: message.content for chat in store.ids() for message in store.read(chat)}
        for message_id, content in promised.items():
            kept = found.get(message_id)
            assert kept is not None, f"seed {seed}, cut {number}: a message is lost"
            assert kept.startswith(content), f"seed {seed}, cut {number}: a message lost its end"


def test_a_power_cut_loses_no_acknowledged_message(tmp_path: Path, power_cut_file_system: Any) -> None:
    run_cuts(100, SEED, tmp_path, power_cut_file_system)


@pytest.mark.slow
def test_a_thousand_power_cuts(tmp_path: Path, power_cut_file_system: Any) -> None:
    run_cuts(1000, SEED + 1, tmp_path, power_cut_file_system)
