"""Attached files in the store: found, exported, imported, and damage in them harmless."""

from __future__ import annotations

import json

from chat_app.attachments.attachment import Attachment, attachments_of, details_of
from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore
from chat_app.store.export import to_html, to_json, to_markdown, to_openai_jsonl
from chat_app.store.importing.formats import read_chat_json
from tests.support.chats import keep

NOW = "2026-01-01T00:00:00Z"
FILES = (Attachment("notes.md", "/x/notes.md", "a <b>zebra</b>\n```\ncode\n```\n", file_bytes=30),)


def conversation() -> Conversation:
    chat = Conversation("id", "Title")
    chat.add("user", "why?", x=details_of(FILES))
    chat.add("assistant", "yes")
    return chat


def test_a_file_is_found_by_its_text_and_its_name(store: ChatStore) -> None:
    chat_id = keep(store, conversation())
    for query in ("zebra", "why zebra", "notes.md", "ze"):
        (hit,) = store.search(store.list(), query)
        assert hit.chat.id == chat_id
    assert "zebra" in store.search(store.list(), "zebra")[0].snippet.text
    assert store.search(store.list(), "file_bytes") == []


def test_it_comes_back_from_the_disk(store: ChatStore) -> None:
    assert attachments_of(store.read(keep(store, conversation())).path()[0].x) == FILES


def test_exports_hold_it() -> None:
    chat = conversation()
    markdown = to_markdown(chat)
    assert "*Attached: notes.md (4 lines, UTF-8)*\n\n````\na <b>zebra</b>\n```" in markdown
    page = to_html(chat)
    assert "<summary>Attached: notes.md" in page
    assert "&lt;b&gt;zebra" in page
    turn = json.loads(to_openai_jsonl(chat))["messages"][0]
    assert turn["content"].startswith('<file name="notes.md">')


def test_a_summary_is_found_and_exported_beside_the_text(store: ChatStore) -> None:
    chat = Conversation("id", "Title")
    chat.add("user", "why?", x=details_of([Attachment("a.md", "/a.md", "one zebra", summary="stripes <i>")]))
    keep(store, chat)
    for query in ("zebra", "stripes"):
        assert len(store.search(store.list(), query)) == 1
    markdown = to_markdown(chat)
    assert "*Attached: a.md (its summary, 1 line, UTF-8)*\n\n*Summary:*\n\n```\nstripes <i>\n```" in markdown
    assert "```\none zebra\n```" in markdown
    page = to_html(chat)
    assert "Summary:\nstripes &lt;i&gt;\n\nThe file:\none zebra" in page


def test_our_own_export_is_read_again() -> None:
    imported = read_chat_json(json.loads(to_json(conversation())), NOW)
    assert imported is not None
    assert attachments_of(imported.conversation.path()[0].x) == FILES


def test_damaged_records_go(store: ChatStore) -> None:
    chat_id = keep(store, conversation())

    def damage(connection: object) -> None:
        connection.execute("UPDATE message SET attachments = '[1, {}]' WHERE role = 'user'")  # type: ignore[attr-defined]

    store.database.write(damage, "a test")
    assert store.read(chat_id).path()[0].x == {}
    assert store.search(store.list(), "zebra") == []
