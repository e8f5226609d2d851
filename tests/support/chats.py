"""The chats that an app or a command left in its home, read as the app itself reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore
from chat_app.store.database import Database
from chat_app.store.records import to_json


def store_of(home: Path) -> ChatStore:
    """The store below `LLAMA_CHAT_HOME`."""
    return ChatStore(Database(home / "data" / "chats.db"))


def keep(store: ChatStore, chat: Conversation) -> str:
    """Write the messages of a chat into the store, one behind the other; returns the new chat's id."""
    transcript = store.create(model="toy")
    for message in chat:
        transcript.append(transcript.conversation.add(message.role, message.content, x=message.x))
    transcript.close()
    return transcript.id


def chat_ids(home: Path) -> list[str]:
    """Of every kind, oldest first."""
    return sorted(chat.id for chat in store_of(home).list(None))


def stored_messages(home: Path) -> list[dict[str, Any]]:
    """Every message of every chat, by its time, as exports write it: {"role", "content", "x": {...}}."""
    store = store_of(home)
    found = [to_json(message) for chat_id in chat_ids(home) for message in store.read(chat_id)]
    return sorted(found, key=lambda message: str(message["x"]["time"]))
