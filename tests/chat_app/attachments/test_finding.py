"""Files, folders and globs as a person names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.attachments import finding
from chat_app.attachments.attachment import AttachmentError
from chat_app.attachments.finding import attach

FILES = {
    ".gitignore": "*.log\nbuild/\n/top.txt\n!keep.log\ndocs/**/*.tmp\n",
    ".git/config": "x",
    ".env": "SECRET=1",
    "a.py": "a",
    "keep.log": "kept",
    "noise.log": "n",
    "top.txt": "t",
    "build/out.txt": "o",
    "src/b.py": "b",
    "src/top.txt": "below, so kept",
    "src/.hidden/c.py": "c",
    "src/.gitignore": "private*\n",
    "src/private.txt": "p",
    "docs/deep/er/x.tmp": "x",
    "docs/y.md": "y",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str) -> list[str]:
    return [one.name for one in attach(given).attachments]


def test_a_folder_without_what_is_hidden_or_ignored(folder: Path) -> None:
    assert names(".") == ["a.py", "docs/y.md", "keep.log", "src/b.py", "src/top.txt"]
    assert names("src") == ["src/b.py", "src/top.txt"]


def test_the_rules_of_the_repository_hold_in_a_folder_below(folder: Path) -> None:
    (folder / "src" / "more.log").write_text("m")
    assert names("src/") == ["src/b.py", "src/top.txt"]


def test_a_folder_beside_the_repository_has_none_of_its_rules(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "src" / ".git").mkdir()
    (folder / ".git" / "config").unlink()
    (folder / ".git").rmdir()
    monkeypatch.chdir(folder / "src")
    (folder / "docs" / "private.txt").write_text("of another folder")
    assert sorted(names("../docs")) == ["private.txt", "x.tmp", "y.md"]


def test_what_is_named_itself_is_taken_whatever_its_name(folder: Path) -> None:
    assert names(".env", "noise.log") == [".env", "noise.log"]


def test_globs(folder: Path) -> None:
    assert names("*.py") == ["a.py"]
    assert names("**/*.py") == ["a.py", "src/b.py"]
    with pytest.raises(AttachmentError, match=r"no text to attach in \*\.rs"):
        attach(["*.rs"])


def test_a_file_whose_name_is_a_glob_is_itself(folder: Path) -> None:
    (folder / "a[1].txt").write_text("one")
    assert names("a[1].txt") == ["a[1].txt"]


def test_each_file_once(folder: Path) -> None:
    assert names("a.py", "*.py", str(folder / "a.py")) == ["a.py"]


def test_links_in_a_folder_are_not_followed(folder: Path) -> None:
    (folder / "src" / "link.txt").symlink_to(folder / ".env")
    (folder / "src" / "round").symlink_to(folder)
    assert names("src") == ["src/b.py", "src/top.txt"]


def test_what_a_folder_holds_beside_text_is_counted(folder: Path) -> None:
    (folder / "src" / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    found = attach(["src"])
    assert len(found.attachments) == 2
    assert found.notes == ("Of src 1 file is left out: no text, empty, or not readable.",)
    with pytest.raises(AttachmentError, match="PNG"):
        attach(["src/p.png"])


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_FILES", 4)
    with pytest.raises(AttachmentError, match="more than 4 files"):
        attach(["."])
    assert len(names("src")) == 2


def test_what_is_not_there_names_the_nearest(folder: Path) -> None:
    with pytest.raises(AttachmentError, match=r"There is no file src/c\.py\. Did you mean b\.py\?"):
        attach(["src/c.py"])
    with pytest.raises(AttachmentError, match="There is no file nowhere/x"):
        attach(["nowhere/x"])
    with pytest.raises(AttachmentError, match="the home that '~nobody-here' begins with is not known"):
        attach(["~nobody-here"])
    with pytest.raises(AttachmentError):
        attach(["nul\0in it"])
    with pytest.raises(AttachmentError):
        attach(["x" * 5000])
