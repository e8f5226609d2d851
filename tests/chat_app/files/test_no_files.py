"""A named pipe where a file of the app's should stand: told, or passed over, and never waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_app.models.file_memory import FileMemory
from chat_app.models.stores.machine import read_object
from chat_app.store.database import Database, StoreError
from chat_app.store.importing.folders import read_old_chat
from chat_app.store.importing.sources import read_source
from chat_app.tui.ui_state import read_ui_state
from llama_core.errors import ModelFormatError
from llama_core.loaders.json_files import read_object as read_core_object
from llama_core.ordinary_files import read_ordinary
from llama_core.tokenizers.from_files import read_limited

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "messages.jsonl"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (read_ordinary, OSError),
        (read_object, OSError),
        (read_core_object, ModelFormatError),
        (read_limited, ModelFormatError),
        (lambda path: list(read_source(path)), OSError),
    ],
)
def test_it_is_told(read: Callable[[Path], object], error: type[Exception], pipe: Path) -> None:
    with pytest.raises(error, match="no ordinary file"):
        read(pipe)


def test_it_is_passed_over_where_nothing_depends_on_it(pipe: Path) -> None:
    assert read_ui_state(pipe) == {}
    assert FileMemory(pipe).get(Path(__file__)) is None
    assert read_old_chat(pipe.parent) is None


def test_a_pipe_for_a_database_is_a_sentence(pipe: Path) -> None:
    database = Database(pipe)
    for use in (database.read, database.write):
        with pytest.raises(StoreError, match="no ordinary file"):
            use(lambda _: None)


def test_a_folder_and_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path, words in ((tmp_path, "is a directory"), (tmp_path / "loop", "too many levels")):
        with pytest.raises(StoreError, match=words):
            Database(path).read(lambda _: None)
    with pytest.raises(OSError, match="null"):
        read_ordinary(Path("a\0b"))


def test_a_file_of_another_program_behind_a_link_is_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("my notes\n" * 500)
    link = tmp_path / "app" / "chats.db"
    link.parent.mkdir()
    link.symlink_to(other)
    database = Database(link)
    database.write(lambda _: None)
    database.close()
    (notice,) = database.notices
    assert "was damaged" in notice
    assert other.read_text() == "my notes\n" * 500
    assert not link.is_symlink()
    (aside,) = link.parent.glob("chats.db.damaged-*")
    assert aside.read_text() == other.read_text()


def test_a_database_behind_a_link_is_written_where_it_is(tmp_path: Path) -> None:
    """As with dotfiles kept in one folder: neither the link nor its target is replaced."""
    (tmp_path / "real").mkdir()
    first = Database(tmp_path / "real" / "chats.db")
    first.write(lambda _: None)
    first.close()
    link = tmp_path / "chats.db"
    link.symlink_to("real/chats.db")
    second = Database(link)
    second.write(
        lambda connection: connection.execute("INSERT INTO draft (chat_id, text) VALUES ('new', 'kept')")
    )
    second.close()
    assert link.is_symlink()
    assert first.read(lambda connection: connection.execute("SELECT text FROM draft").fetchone()) == ("kept",)
