"""Names of files, and removing what is kept of a chat."""

from __future__ import annotations

from pathlib import Path

from chat_app.config.paths import get_paths
from chat_app.kv_files.folder import file_stem, remove_kv_files
from chat_app.store.chats import ChatStore, open_store


def test_ids_from_elsewhere_make_safe_names() -> None:
    assert file_stem("20261123-120501-9f3a1c07") == "20261123-120501-9f3a1c07"
    for strange in ("../../etc/passwd", "a.b", "[x]*", "", "ä" * 300, "x\n"):
        assert file_stem(strange).isalnum()
    assert file_stem("a/b") != file_stem("a.b")


def test_all_of_a_chat_and_nothing_else_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "kv"
    folder.mkdir()
    for name in ("one.aa.kv", "one.bb.kv", "one-more.aa.kv", "lock", "one.txt"):
        (folder / name).touch()
    remove_kv_files(folder, "one")
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "one-more.aa.kv", "one.txt"]
    remove_kv_files(tmp_path / "missing", "one")


def test_a_chat_that_is_deleted_takes_it_along() -> None:
    store = open_store(get_paths())
    for delete in (ChatStore.delete, ChatStore.remove):
        chat = store.create(model="toy")
        chat.append(chat.conversation.add("user", "hello"))
        chat.close()
        kept = get_paths().kv_files / f"{chat.id}.0123.kv"
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
        delete(store, chat.id)
        assert not kept.exists()
    store.close()
