"""The two ways to write: a line that is durable when the call returns, and a file that is old or new."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from chat_app.store.durable import AppendFile, make_folder, replace_file, write_new


def test_a_line_and_its_files_name_are_synced_before_append_returns(
    tmp_path: Path, power_cut_file_system: Any
) -> None:
    disk = power_cut_file_system(tmp_path)
    AppendFile(tmp_path / "log", disk).append(b"first\n")
    for seed in range(20):
        after = tmp_path.parent / f"{tmp_path.name}-after-{seed}"
        after.mkdir()
        disk.cut(len(disk.events), random.Random(seed), after)
        assert (after / "log").read_bytes() == b"first\n"


def test_one_line_is_one_write(tmp_path: Path, power_cut_file_system: Any) -> None:
    disk = power_cut_file_system(tmp_path)
    AppendFile(tmp_path / "log", disk).append(b"a line of text\n")
    assert [event[2] for event in disk.events if event[0] == "write"] == [b"a line of text\n"]


def test_a_last_line_that_another_program_left_open_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"from an editor")
    AppendFile(path).append(b"ours\n")
    assert path.read_bytes() == b"from an editor\nours\n"


def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b")
        AppendFile(tmp_path / "a" / "b" / "log").append(b"x\n")
        replace_file(tmp_path / "a" / "b" / "meta", b"y")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "log": 0o600, "meta": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_link_in_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"precious\n")
    (tmp_path / "log").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="link"):
        AppendFile(tmp_path / "log").append(b"x\n")
    assert (tmp_path / "theirs").read_bytes() == b"precious\n"


def test_a_replaced_file_is_the_old_or_the_new_one_at_every_power_cut(
    tmp_path: Path, power_cut_file_system: Any
) -> None:
    home = tmp_path / "disk"
    home.mkdir()
    (home / "meta").write_bytes(b"the old content")
    disk = power_cut_file_system(home)
    replace_file(home / "meta", b"the new content, which is longer", disk)
    seen = set()
    for at in range(len(disk.events) + 1):
        for seed in range(10):
            after = tmp_path / f"{at}-{seed}"
            after.mkdir()
            disk.cut(at, random.Random(seed), after)
            seen.add((after / "meta").read_bytes())
            if at == len(disk.events):
                assert (after / "meta").read_bytes().startswith(b"the new")
    assert seen == {b"the old content", b"the new content, which is longer"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_when_replacing_fails_the_old_file_stays_and_no_rubbish(
    tmp_path: Path, faulty_file_system: Any, fault: str, overwrite: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "meta"
    for nth in range(1, 12):
        if overwrite:
            target.write_bytes(b"old")
        disk = faulty_file_system(nth, fault)
        try:
            replace_file(target, b"new content", disk, overwrite=overwrite)
        except OSError:
            left = target.read_bytes() if target.exists() else b"old"
            # The only call that can fail after the rename is the sync of the folder.
            assert left == (b"new content" if disk.happened == "sync_folder" else b"old")
        else:
            assert target.read_bytes() == b"new content"
        if disk.happened != "unlink":
            assert {path.name for path in folder.iterdir()} <= {"meta"}
        for path in folder.iterdir():
            path.unlink()


def test_a_disk_without_links_still_overwrites_nothing(tmp_path: Path, faulty_file_system: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for content in (b"first", b"second"):
        # open, write, fsync, close, then the link
        disk = faulty_file_system(5, "EPERM")
        if content == b"first":
            replace_file(folder / "mine", content, disk, overwrite=False)
        else:
            with pytest.raises(FileExistsError):
                replace_file(folder / "mine", content, disk, overwrite=False)
        assert disk.happened == "link"
    assert [path.read_bytes() for path in folder.iterdir()] == [b"first"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    mine = tmp_path / "folder" / "mine"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        replace_file(mine, b"yours", overwrite=False)
    with pytest.raises(FileExistsError):
        write_new(mine, b"yours")
    assert [path.read_bytes() for path in mine.parent.iterdir()] == [b"mine"]
