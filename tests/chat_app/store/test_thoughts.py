"""Thoughts in the store: found, exported, imported, and brought along from an older file."""

from __future__ import annotations

import json

from chat_app.chat.conversation import Conversation
from chat_app.store import schema
from chat_app.store.chats import ChatStore
from chat_app.store.export import to_html, to_markdown, to_openai_jsonl
from chat_app.store.importing.formats import read_chat_json
from tests.support.chats import keep

NOW = "2026-01-01T00:00:00Z"


def conversation() -> Conversation:
    chat = Conversation("id", "Title")
    chat.add("user", "why?")
    chat.add("assistant", "yes", x={"thought": "first the <b>giraffe</b>\n\nthen", "thought_n": 4})
    return chat


def test_a_thought_is_found(store: ChatStore) -> None:
    chat_id = keep(store, conversation())
    for query in ("giraffe", "yes giraffe", "gi"):
        (hit,) = store.search(store.list(), query)
        assert hit.chat.id == chat_id
    assert "giraffe" in store.search(store.list(), "giraffe")[0].snippet.text
    assert store.search(store.list(), "zebra") == []


def test_a_thought_from_an_older_file_is_found(store: ChatStore) -> None:
    chat_id = keep(store, conversation())

    def as_before(connection: object) -> None:
        connection.execute("UPDATE search SET text = 'yes'")  # type: ignore[attr-defined]
        connection.execute("UPDATE message SET indexed = 1")  # type: ignore[attr-defined]

    store.database.write(as_before, "a test")
    assert store.search(store.list(), "giraffe") == []

    def migrated(connection: object) -> None:
        for statement in schema._THOUGHTS_ARE_SEARCHED:
            connection.execute(statement)  # type: ignore[attr-defined]

    store.database.write(migrated, "a test")
    (hit,) = store.search(store.list(), "giraffe")
    assert hit.chat.id == chat_id
    assert schema._THOUGHTS_ARE_SEARCHED in schema.MIGRATIONS


def test_exports_hold_it_apart() -> None:
    markdown = to_markdown(conversation())
    assert "> first the <b>giraffe</b>\n>\n> then\n\nyes" in markdown
    page = to_html(conversation())
    assert "<details><summary>Thought</summary>" in page
    assert "<b>giraffe" not in page
    (line,) = to_openai_jsonl(conversation()).splitlines()
    assert json.loads(line)["messages"][1] == {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "first the <b>giraffe</b>\n\nthen",
    }


def test_imports_read_it() -> None:
    for key in ("reasoning_content", "reasoning", "thinking"):
        messages = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "yes", key: "hm"}]
        chat = read_chat_json({"messages": messages}, NOW)
        assert chat is not None
        assert chat.conversation.path()[-1].x["thought"] == "hm"
    line = to_openai_jsonl(conversation())
    again = read_chat_json(json.loads(line), NOW)
    assert again is not None
    assert to_openai_jsonl(again.conversation) == line
