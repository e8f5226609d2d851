"""Run as a program by the tests: writes to a database and says on stdout what was acknowledged.

child_writer.py stream FILE CHAT|-          talk without end, to be killed
child_writer.py turns FILE CHAT NAME COUNT  COUNT messages into one chat, opened anew for each
child_writer.py prompts FILE NAME COUNT     COUNT prompts into one shared history
child_writer.py hold FILE                   hold the file locked until stdin ends
child_writer.py read FILE CHAT              the texts of a chat, and whether one more can be said; not as root
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path

from chat_app.chat.conversation import Message
from chat_app.store.chats import ChatStore, StoreError, Transcript
from chat_app.store.database import Database


def say(**what: object) -> None:
    # One write straight to the pipe: a kill must not lose what was acknowledged in a buffer.
    os.write(1, json.dumps(what).encode() + b"\n")


def stream(store: ChatStore, chat_id: str) -> None:
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


def turns(store: ChatStore, chat_id: str, name: str, count: int) -> None:
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
        except StoreError:
            time.sleep(0.001)  # the others have written for a whole second


def prompts(database: Database, name: str, count: int) -> None:
    from chat_app.store.prompts import PromptHistory

    history = PromptHistory(database)
    for number in range(count):
        if not history.add(f"{name} {number} " + name * 300):
            while not history.flush():
                pass


def hold(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    say(held=True)
    sys.stdin.read()


def read(store: ChatStore, chat_id: str) -> None:
    if os.geteuid() == 0:  # root may write everywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    transcript = store.open(chat_id)
    problem = ""
    try:
        transcript.append(transcript.conversation.add("user", "one more"))
    except StoreError as error:
        problem = str(error)
    say(texts=[message.content for message in transcript.conversation.path()], problem=problem)


match sys.argv[1:]:
    case ["stream", path, chat_id]:
        stream(ChatStore(Database(Path(path))), chat_id)
    case ["turns", path, chat_id, name, count]:
        turns(ChatStore(Database(Path(path))), chat_id, name, int(count))
    case ["prompts", path, name, count]:
        prompts(Database(Path(path)), name, int(count))
    case ["hold", path]:
        hold(path)
    case ["read", path, chat_id]:
        read(ChatStore(Database(Path(path))), chat_id)
    case _:
        sys.exit(__doc__)
