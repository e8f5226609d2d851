"""The two ways to write: a line that is durable when the call returns, and a file that is old or new."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chat_app.files.durable import AppendFile, replace_file, why_unwritable, write_new
from chat_app.files.process_lock import ProcessLock
from tests.support.full_disk import files_end_at


def test_a_line_is_one_write_and_synced_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    write, fsync = os.write, os.fsync

    def noted_write(fd: int, data: bytes) -> int:
        calls.append(f"write {bytes(data)!r}")
        return write(fd, data)

    def noted_fsync(fd: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    monkeypatch.setattr(os, "write", noted_write)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    AppendFile(tmp_path / "log").append(b"first\n")
    assert calls == ["write b'first\\n'", "sync file", "sync folder"]


def test_a_line_that_finds_no_room_leaves_nothing_and_a_retry_works(tmp_path: Path) -> None:
    for size in range(6, 12):
        path = tmp_path / f"{size}"
        file = AppendFile(path)
        file.append(b"first\n")
        with files_end_at(size), pytest.raises(OSError, match="large"):
            file.append(b"second\n")
        assert path.read_bytes() == b"first\n"
        file.append(b"second\n")
        assert path.read_bytes() == b"first\nsecond\n"


def test_a_last_line_that_another_program_left_open_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"from an editor")
    AppendFile(path).append(b"ours\n")
    assert path.read_bytes() == b"from an editor\nours\n"


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        AppendFile(tmp_path / "log").append(b"x\n")
        replace_file(tmp_path / "meta", b"y")
        lock = ProcessLock(tmp_path / "lock")
        assert lock.acquire()
        lock.release()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_file()}
    assert modes == {"log": 0o600, "meta": 0o600, "lock": 0o600}


def test_a_link_in_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"precious\n")
    (tmp_path / "log").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="link"):
        AppendFile(tmp_path / "log").append(b"x\n")
    assert (tmp_path / "theirs").read_bytes() == b"precious\n"


@pytest.mark.parametrize("overwrite", [True, False])
def test_when_replacing_finds_no_room_the_old_file_stays_and_no_rubbish(
    tmp_path: Path, overwrite: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "meta"
    if overwrite:
        target.write_bytes(b"old")
    for size in range(11):
        with files_end_at(size), pytest.raises(OSError, match="large"):
            replace_file(target, b"new content", overwrite=overwrite)
        assert [path.read_bytes() for path in folder.iterdir()] == ([b"old"] if overwrite else [])
    replace_file(target, b"new content", overwrite=overwrite)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"new content"]


@pytest.mark.parametrize("linked", [True, False])
def test_nothing_is_overwritten_unasked_with_links_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    mine = tmp_path / "folder" / "mine"
    mine.parent.mkdir()
    replace_file(mine, b"mine", overwrite=False)
    with pytest.raises(FileExistsError):
        replace_file(mine, b"yours", overwrite=False)
    with pytest.raises(FileExistsError):
        write_new(mine, b"yours")
    assert [path.read_bytes() for path in mine.parent.iterdir()] == [b"mine"]


def test_whether_a_file_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    assert why_unwritable(tmp_path / "new") is None
    assert why_unwritable(tmp_path / "there") is None
    assert "no folder" in str(why_unwritable(tmp_path / "missing" / "new"))
    assert "no ordinary file" in str(why_unwritable(tmp_path))
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert not (tmp_path / "new").exists()
