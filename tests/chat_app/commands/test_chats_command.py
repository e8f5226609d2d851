"""`llama-chat chats`: what each command prints, and that mistakes are sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import store_of

Main = Callable[..., Any]


@pytest.fixture
def ids(llama_chat_home: Path) -> list[str]:
    """Two chats and a one-shot run."""
    store = store_of(llama_chat_home)
    made = []
    for title, kind, turns in (
        ("Gardening", "chat", ["Plant a pear?", "Plant a pear \x1b[31mtree."]),
        ("Cities", "chat", ["What is the capital of France?", "Paris."]),
        ("run", "oneshot", ["pear", "pear"]),
    ):
        chat = store.create(model="toy", title=title, kind=kind)
        for number, text in enumerate(turns):
            chat.append(chat.conversation.add("assistant" if number % 2 else "user", text))
        chat.close()
        made.append(chat.id)
    return made


def test_chats_are_listed_newest_first(main: Main, ids: list[str]) -> None:
    lines = main("chats", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == [ids[1], ids[0]]
    assert lines[0].endswith("2  Cities")
    found = json.loads(main("chats", "list", "--kind", "all", "--output", "json").out)
    assert [chat["id"] for chat in found] == ids[::-1]
    assert (found[0]["kind"], found[0]["message_count"]) == ("oneshot", 2)


def test_without_chats_that_is_said_and_nothing_is_made(main: Main, llama_chat_home: Path) -> None:
    ran = main("chats", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "no chats yet" in ran.err
    assert not (llama_chat_home / "data").exists()


def test_a_chat_is_shown_by_a_part_of_its_id(main: Main, ids: list[str]) -> None:
    ran = main("chats", "show", ids[1][-8:])
    assert "## You\n\nWhat is the capital of France?\n\n## Assistant\n\nParis." in ran.out
    whole = json.loads(main("chats", "show", ids[1], "--output", "json").out)
    assert [message["content"] for message in whole["messages"]] == [
        "What is the capital of France?",
        "Paris.",
    ]


def test_words_are_searched_in_all_chats(main: Main, ids: list[str]) -> None:
    ran = main("chats", "search", "PEAR", "tree")
    first, second = ran.out.splitlines()
    assert first.startswith(ids[0])
    assert second.strip() == "Plant a pear [31mtree."
    (hit,) = json.loads(main("chats", "search", "france", "--output", "json").out)
    assert (hit["id"], hit["count"]) == (ids[1], 1)
    assert [hit["snippet"][slice(*span)] for span in hit["spans"]] == ["France"]
    nothing = main("chats", "search", "zzz")
    assert (nothing.code, nothing.out) == (0, "")
    assert "No chat holds these words" in nothing.err


@pytest.mark.parametrize(
    ("kind", "ending", "begins"),
    [
        ("markdown", ".md", "---"),
        ("openai", ".jsonl", '{"messages"'),
        ("json", ".json", "{"),
        ("html", ".html", "<!"),
    ],
)
def test_chats_are_exported_to_stdout_or_files(
    main: Main, ids: list[str], tmp_path: Path, kind: str, ending: str, begins: str
) -> None:
    text = main("chats", "export", ids[1], "--format", kind).out
    assert text.startswith(begins)
    assert "Paris" in text
    ran = main(
        "chats", "export", "--all", "--format", kind, "--to", str(tmp_path / "out"), "--output", "json"
    )
    files = [tmp_path / "out" / f"{chat_id}{ending}" for chat_id in ids[::-1]]
    assert json.loads(ran.out)["files"] == [str(path) for path in files]
    assert files[1].read_text(encoding="utf-8") == text
    again = main("chats", "export", ids[1], "--format", kind, "--to", str(tmp_path / "out"))
    assert again.code == 1
    assert "exists already" in again.err
    one = tmp_path / f"one{ending}"
    assert main("chats", "export", ids[1], "--format", kind, "--to", str(one)).out == f"{one}\n"
    assert one.read_text(encoding="utf-8") == text


def test_what_was_exported_can_be_imported_elsewhere(
    main: Main, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main("chats", "export", "--all", "--format", "openai", "--to", str(tmp_path / "out")).code == 0
    monkeypatch.setenv("LLAMA_CHAT_HOME", str(tmp_path / "other"))
    sources = [str(path) for path in sorted((tmp_path / "out").iterdir())]
    ran = main("chats", "import", *sources)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == f"{sources[0]}: 1 chat with 2 messages taken over."
    second = main("chats", "import", sources[0], "--output", "json")
    assert len(json.loads(second.out)[0]["there_already"]) == 1
    assert len(json.loads(main("chats", "list", "--output", "json").out)) == 3


def test_a_deleted_chat_can_be_restored_until_it_is_removed(main: Main, ids: list[str]) -> None:
    assert main("chats", "delete", ids[0][-8:]).out == f"{ids[0]} put into the trash for 30 days\n"
    assert main("chats", "list").out.splitlines()[0].startswith(ids[1])
    assert main("chats", "list", "--trash").out.startswith(ids[0])
    assert json.loads(main("chats", "restore", ids[0], "--output", "json").out) == {"chats": [ids[0]]}
    assert main("chats", "delete", "--forever", ids[0], ids[2]).code == 0
    assert [line.split()[0] for line in main("chats", "list", "--kind", "all").out.splitlines()] == [ids[1]]
    assert main("chats", "list", "--trash").out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "zzz"], 1, "no chat with the id 'zzz'"),
        (["show", "2"], 1, "3 chats have ids like '2'"),
        (["delete", "zzz"], 1, "no chat"),
        (["restore", "2"], 1, "no chat"),
        (["export"], 2, "name the chats"),
        (["export", "2", "--all"], 2, "name the chats"),
        (["export", "--all", "--output", "json"], 2, "--to"),
        (["import", "/nothing/there"], 1, "No such file"),
        (["lis"], 2, "invalid choice"),
        (["list", "--tras"], 2, "--tras"),
    ],
)
def test_mistakes_are_sentences(
    main: Main, ids: list[str], arguments: list[str], code: int, said: str
) -> None:
    ran = main("chats", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
