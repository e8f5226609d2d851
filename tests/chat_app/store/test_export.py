"""Exports: what others read is valid in its own format, and no file is lost to one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.chat.conversation import Conversation
from chat_app.store.export import ExportError, export_chat, to_html, to_json, to_markdown, to_openai_jsonl
from chat_app.store.records import build_conversation, from_json


def chat() -> Conversation:
    talk = Conversation("20261123-120000-abcdef", 'A "title": with\n--- and \x1b[31m')
    talk.add("user", "Hi 🙂")
    talk.add("assistant", "One way", x={"ids": [1, 2]})
    other = "# Another\n\n```\ncode\x1b]52;c;eA==\x07\n```\n"
    talk.add("assistant", other, parent=talk.path()[0].id, status="stopped")
    return talk


def test_markdown_has_front_matter_that_no_title_breaks() -> None:
    text = to_markdown(chat(), model="toy", created="2026-11-23T12:00:00Z")
    _, head, body = text.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in head.splitlines())
    assert json.loads(values["title"]) == 'A "title": with --- and [31m'
    assert (json.loads(values["model"]), json.loads(values["id"])) == ("toy", chat().id)
    assert "## You\n\nHi 🙂\n" in body
    assert body.endswith("*(stopped)*\n")


def test_markdown_holds_no_control_codes() -> None:
    text = to_markdown(chat())
    assert {character for character in text if ord(character) < 32} == {"\n"}
    assert "```\ncode]52;c;eA==\n```" in text


def test_openai_lines_hold_the_branch_shown() -> None:
    talk = chat()
    talk.update(replace(talk.path()[-1], x={"system": "Be brief."}))
    lines = to_openai_jsonl(talk).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi 🙂"},
                {"role": "assistant", "content": chat().path()[-1].content},
            ]
        }
    ]


def test_json_holds_every_branch_so_that_the_tree_can_be_built_again() -> None:
    talk = chat()
    whole = json.loads(to_json(talk, model="toy", created="now"))
    records = [from_json(message, "") for message in whole["messages"]]
    again = build_conversation(talk.id, talk.title, [record for record in records if record is not None])
    assert list(again) == list(talk)
    assert (whole["title"], whole["model"], whole["tip"]) == (talk.title, "toy", talk.tip)


@pytest.mark.parametrize("ending", [".md", ".jsonl", ".json", ".html", ".MD"])
def test_a_file_is_written_once_and_never_overwritten_unasked(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"chat{ending}"
    assert export_chat(chat(), path) == path
    first = path.read_bytes()
    other = Conversation("other")
    with pytest.raises(ExportError, match="exists already"):
        export_chat(other, path)
    assert path.read_bytes() == first
    export_chat(other, path, overwrite=True)
    assert path.read_bytes() != first
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [path.name]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"use \.md, \.jsonl, \.json or \.html"):
        export_chat(chat(), tmp_path / "chat.docx")
    with pytest.raises(ExportError, match="could not be written"):
        export_chat(chat(), tmp_path / "missing" / "chat.md")


def test_half_a_surrogate_pair_does_not_stop_an_export(tmp_path: Path) -> None:
    talk = Conversation("c")
    talk.add("user", "lone \ud800 half")
    for ending in (".md", ".json", ".jsonl"):
        export_chat(talk, tmp_path / f"c{ending}")
    (message,) = json.loads((tmp_path / "c.json").read_bytes())["messages"]
    assert message["content"] == "lone \ud800 half"


def test_a_page_shows_the_branch_and_runs_or_fetches_nothing() -> None:
    talk = Conversation("c", "<script>alert(1)</script>")
    talk.add("user", "<b>bold</b> & [a](javascript:alert(1)) ![x](http://example.org/x.png)")
    talk.add(
        "assistant",
        "# Heading\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n<code>\x1b[31m\n```",
        status="stopped",
    )
    page = to_html(talk, model="toy")
    assert page.count("<script") == page.count("<b>") == page.count("<img") == 0
    assert "href" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; [a](javascript:alert(1)) [x]" in page
    assert "<h1>Heading</h1>" in page
    assert "<td>1</td>" in page
    assert "&lt;code&gt;[31m" in page
    assert "(stopped)" in page
    assert "default-src 'none'" in page
