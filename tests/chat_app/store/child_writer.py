"""Run as a program by the tests: writes to a store and says on stdout what was acknowledged.

child_writer.py stream ROOT CHAT|-          talk without end, to be killed
child_writer.py turns ROOT CHAT NAME COUNT  COUNT messages into one chat, opened anew for each
child_writer.py prompts FILE NAME COUNT     COUNT prompts into one shared history
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from chat_app.chat.conversation import Message
from chat_app.store.file_system import FileSystem
from chat_app.store.transcripts import Transcript, TranscriptError, TranscriptStore


class SlowDisk(FileSystem):
    """Takes each write in three parts with a pause between: without a lock, others come in there."""

    def write(self, fd: int, data: bytes) -> int:
        time.sleep(0.0002)
        return super().write(fd, data[: max(1, len(data) // 3)] if len(data) > 99 else data)


def say(**what: str) -> None:
    # One write straight to the pipe: a kill must not lose what was acknowledged in a buffer.
    os.write(1, json.dumps(what).encode() + b"\n")


def stream(root: Path, chat_id: str) -> None:
    store = TranscriptStore(root)
    transcript = store.create(model="toy") if chat_id == "-" else store.open(chat_id)
    say(chat=transcript.id)

    def save(message: Message) -> None:
        transcript.append(message)
        say(id=message.id, content=message.content, status=message.status)

    for turn in itertools.count():
        save(transcript.conversation.add("user", f"question {turn} of {os.getpid()}"))
        reply = transcript.conversation.add("assistant", "", status="partial")
        for word in range(turn % 5):
            reply = replace(reply, content=reply.content + f"word {word} " * 40)
            save(reply)
        save(replace(reply, content=reply.content + "the end", status="complete"))


def turns(root: Path, chat_id: str, name: str, count: int) -> None:
    store = TranscriptStore(root, SlowDisk())
    for number in range(count):
        transcript = store.open(chat_id)
        message = transcript.conversation.add("user", f"{name} {number} " + name * 300)
        _until_saved(transcript, message)
        transcript.close()
        say(id=message.id, content=message.content)


def _until_saved(transcript: Transcript, message: Message) -> None:
    while True:
        try:
            transcript.append(message)
            return
        except TranscriptError:
            time.sleep(0.001)  # another instance is writing


def prompts(path: Path, name: str, count: int) -> None:
    from chat_app.store.prompt_history import PromptHistory

    history = PromptHistory(path, fs=SlowDisk())
    for number in range(count):
        if not history.add(f"{name} {number} " + name * 300):
            while not history.flush():
                pass  # another instance has the lock for very long


match sys.argv[1:]:
    case ["stream", root, chat_id]:
        stream(Path(root), chat_id)
    case ["turns", root, chat_id, name, count]:
        turns(Path(root), chat_id, name, int(count))
    case ["prompts", path, name, count]:
        prompts(Path(path), name, int(count))
    case _:
        sys.exit(__doc__)
