"""Chats of other programs and of other files, taken over; what is no chat is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.store.chats import ChatStore
from chat_app.store.database import Database
from chat_app.store.export import to_json, to_openai_jsonl
from chat_app.store.importing.formats import read_chat_json
from chat_app.store.importing.sources import ChatImportError, import_chats, read_source

OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is"}, {"type": "image_url", "image_url": {}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "4"},
    ]
}
SHAREGPT = {
    "id": "x1",
    "system": "Be kind.",
    "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello 你好"}],
}


def node(key: str, parent: str | None, children: list[str], message: Any) -> dict[str, Any]:
    return {"id": key, "parent": parent, "children": children, "message": message}


def said(role: str, text: str, **metadata: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": [text]}
    return {"author": {"role": role}, "content": content, "create_time": 1700000000.5, "metadata": metadata}


CHATGPT = {
    "title": "Counting",
    "create_time": 1700000000.0,
    "conversation_id": "c-1",
    "current_node": "a2",
    "mapping": {
        "root": node("root", None, ["s"], None),
        "s": node("s", "root", ["u"], said("system", "", is_visually_hidden_from_conversation=True)),
        "u": node("u", "s", ["t", "a1"], said("user", "Count to two")),
        "a1": node("a1", "u", [], said("assistant", "1, 2", model_slug="gpt-x")),
        "t": node(
            "t",
            "u",
            ["tool"],
            {
                "author": {"role": "assistant"},
                "content": {
                    "content_type": "thoughts",
                    "thoughts": [{"summary": "s", "content": "first one"}],
                },
            },
        ),
        "tool": node(
            "tool",
            "t",
            ["a2"],
            {"author": {"role": "tool"}, "content": {"content_type": "text", "parts": ["x"]}},
        ),
        "a2": node("a2", "tool", ["u2"], said("assistant", "one, two", model_slug="gpt-y")),
        "u2": node("u2", "a2", [], said("user", "more")),
    },
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def texts(store: ChatStore, chat_id: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in store.read(chat_id).path()]


def test_openai_messages_line_by_line(store: ChatStore, tmp_path: Path) -> None:
    other = {"messages": [{"role": "user", "content": "another"}]}
    path = write(tmp_path / "a.jsonl", f"{json.dumps(OPENAI)}\n\n{json.dumps(other)}\nno chat\n")
    report = import_chats(store.database, path)
    assert (len(report.imported), report.n_messages, report.n_left_out) == (2, 4, 2)
    assert report.unreadable == ["line 4 is no chat"]
    first, _ = sorted(report.imported, key=lambda one: -len(store.read(one)))
    assert texts(store, first) == [("system", "Be brief."), ("user", "What is"), ("assistant", "4")]
    assert {chat.title for chat in store.list()} == {"What is", "another"}


def test_sharegpt_with_its_system_prompt(store: ChatStore, tmp_path: Path) -> None:
    (chat_id,) = import_chats(store.database, write(tmp_path / "s.json", json.dumps([SHAREGPT]))).imported
    assert texts(store, chat_id) == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello 你好")]
    assert [hit.chat.id for hit in store.search(store.list(), "你好")] == [chat_id]


@pytest.mark.parametrize("zipped", [True, False])
def test_chatgpts_tree_with_its_thoughts_and_branches(store: ChatStore, tmp_path: Path, zipped: bool) -> None:
    path = write(tmp_path / "conversations.json", json.dumps([CHATGPT]))
    if zipped:
        with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
            archive.write(path, "conversations.json")
            archive.writestr("chat.html", "<html>")
        path = tmp_path / "export.zip"
    (chat_id,) = import_chats(store.database, path).imported
    assert texts(store, chat_id) == [("user", "Count to two"), ("assistant", "one, two")], (
        "up to current_node"
    )
    chat = store.open(chat_id)
    assert chat.conversation.get("a2").x == {"model": "gpt-y", "thought": "first one"}
    assert [one.content for one in chat.conversation.children("u")] == ["one, two", "1, 2"]
    assert [one.content for one in chat.conversation.children("a2")] == ["more"]
    (summary,) = store.list()
    assert (summary.title, summary.created) == ("Counting", "2023-11-14T22:13:20.000000Z")
    assert (chat_id[:15], chat.warnings) == ("20231114-221320", [])


def test_our_own_export_comes_back_whole(store: ChatStore, tmp_path: Path) -> None:
    chat = store.create(model="toy", title="Mine")
    for role, text in (("user", "one"), ("assistant", "uno")):
        chat.append(chat.conversation.add(role, text, x={"ids": [1]}))  # type: ignore[arg-type]
    question = chat.conversation.path()[0].id
    chat.append(chat.conversation.add("assistant", "eins", parent=question, status="stopped"))
    path = write(tmp_path / "c.json", to_json(chat.conversation, model="toy", created=chat.details.created))
    assert import_chats(store.database, path).there_already == [chat.id]
    store.remove(chat.id)
    assert import_chats(store.database, path).imported == [chat.id]
    again = store.open(chat.id)
    assert list(again.conversation) == list(chat.conversation)
    assert (again.conversation.tip, again.conversation.title) == (chat.conversation.tip, "Mine")
    assert (again.details.model, again.details.created) == ("toy", chat.details.created)
    lines = write(tmp_path / "c.jsonl", to_openai_jsonl(chat.conversation))
    (chat_id,) = import_chats(store.database, lines).imported
    assert texts(store, chat_id) == [("user", "one"), ("assistant", "eins")]


@pytest.mark.parametrize("damaged", [True, False])
def test_another_database_damaged_or_not(store: ChatStore, tmp_path: Path, damaged: bool) -> None:
    other = ChatStore(Database(tmp_path / "other" / "chats.db"))
    chat = other.create(model="toy", title="Theirs")
    chat.append(chat.conversation.add("user", "one"))
    chat.close()
    path = other.database.path
    if damaged:
        path = path.rename(path.with_name("chats.db.damaged-20261129-120000-abcd"))
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
    before = path.read_bytes()
    assert import_chats(store.database, path).imported == [chat.id]
    assert texts(store, chat.id) == [("user", "one")]
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_is_imported_twice_is_there_once(store: ChatStore, tmp_path: Path) -> None:
    path = write(tmp_path / "all.json", json.dumps([OPENAI, SHAREGPT, CHATGPT]))
    first = import_chats(store.database, path)
    second = import_chats(store.database, path)
    assert len(first.imported) == 3
    assert (second.imported, second.there_already) == ([], first.imported)
    store.delete(first.imported[0])
    assert import_chats(store.database, path).imported == [], "what was deleted does not come back by itself"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1, null]", '{"messages": []}', "\0\0\0", "[" * 100_000, "# A note\n\nHello."]
)
def test_a_file_without_a_chat_is_a_sentence(store: ChatStore, tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "notes.json", text)
    with pytest.raises(ChatImportError, match=r"notes\.json holds no chat that can be read.* ShareGPT"):
        import_chats(store.database, path)
    assert store.list() == []


def test_an_archive_of_something_else_is_a_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "x")
    with pytest.raises(ChatImportError, match=r"holds no conversations\.json"):
        list(read_source(tmp_path / "a.zip"))


KEYS = (
    *("role", "content", "messages", "mapping", "parent", "children", "message", "author", "parts", "from"),
    *("value", "conversations", "thoughts", "content_type", "metadata", "create_time", "x", "id", "tip"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    JSON,
    st.sampled_from(["messages", "conversations", "mapping"]),
    st.sampled_from(["llama-chat", "other"]),
)
def test_no_json_of_a_chats_shape_crashes(value: Any, key: str, kind: str) -> None:
    for inner in (value, [value], {"a": value}, {"a": {"message": value, "parent": "b"}}):
        chat = read_chat_json({"format": kind, key: inner, "id": value, "title": value, "tip": None}, "2026")
        assert chat is None or len(chat.conversation)
