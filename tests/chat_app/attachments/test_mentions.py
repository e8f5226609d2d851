"""`@path` in a prompt, its completion, and files dropped on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.attachments.mentions import (
    as_mention,
    dropped,
    mentions,
    offers,
    offers_of_path,
    read_names,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    for name in ("notes.txt", "Notebook.md", ".env", "two words.txt", "src/a.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x" * 2048)
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("look at @notes.txt, please", ["notes.txt"]),
        ("@notes.txt @notes.txt @src/", ["notes.txt", "src/"]),
        ("(see @notes.txt)", ["notes.txt"]),
        ('is @"two words.txt" good?', ["two words.txt"]),
        ("all of @src/*.py", ["src/*.py"]),
        ("@property def x", []),
        ("me@notes.txt", []),
        ("@nothing.txt @ @@ @~nobody-here/x", []),
        ("", []),
    ],
)
def test_what_is_there_is_mentioned(text: str, found: list[str]) -> None:
    assert mentions(text) == found


@pytest.mark.parametrize("name", ["notes.txt", "two words.txt", "is it?", 'a"b', "src/"])
def test_a_mention_is_read_as_it_was_written(folder: Path, name: str) -> None:
    (folder / name).touch() if name != "src/" else None
    assert mentions(as_mention(name)) == [name]


def test_offers() -> None:
    assert offers("see @no") == [
        ("see @notes.txt ", "2.0 KiB"),
        ("see @Notebook.md ", "2.0 KiB"),
    ]
    assert offers("@s") == [("@src/", "folder")]
    assert offers("@src/") == [("@src/a.py ", "2.0 KiB")]
    assert offers('@"tw') == offers("@tw") == [('@"two words.txt" ', "2.0 KiB")]
    assert [row[0] for row in offers("@")] == ["@Notebook.md ", "@notes.txt ", "@src/", '@"two words.txt" ']
    assert offers("@.e") == [("@.env ", "2.0 KiB")]
    assert offers("@notes.txt") == offers("no mention") == offers("@notes.txt and") == offers("@x/y/") == []


def test_dropped_files(folder: Path) -> None:
    one, two = folder / "notes.txt", folder / "two words.txt"
    assert dropped(f"{one} ") == f"@{one} "
    assert dropped(f"'{two}'") == f'@"{two}" '
    assert dropped(f"{str(two).replace(' ', chr(92) + ' ')} {one}\n") == f'@"{two}" @{one} '
    assert dropped(f"file://{str(two).replace(' ', '%20')}") == f'@"{two}" '
    for text in ("notes.txt", f"{one} is a file", "", "it's", f"{one}\n{two}", "/nowhere"):
        assert dropped(text) is None


def test_paths_behind_a_command() -> None:
    assert read_names('notes.txt "two words.txt" src/*.py') == ("notes.txt", "two words.txt", "src/*.py")
    assert offers_of_path("notes.txt sr") == [("notes.txt src/", "folder")]
    assert offers_of_path('src/ "two w') == [('src/ "two words.txt" ', "2.0 KiB")]
    for text, why in (("nowhere", "no file 'nowhere'"), ('"two', "quotation mark")):
        with pytest.raises(ValueError, match=why):
            read_names(text)
