"""Files that are run or believed: every way in which someone else could have written one."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
from pathlib import Path

import pytest

from llama_core import trusted_files
from llama_core.trusted_files import UntrustedFileError, read_trusted, require_trusted_folder

pytestmark = pytest.mark.skipif(not trusted_files._CHECKS, reason="this system has no such calls")
STRANGER = 54321


def belongs_to(path: Path, monkeypatch: pytest.MonkeyPatch, *, others: bool) -> None:
    """Make a path another user's. Only root can; else it is we who become another, and all else with it."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER if others else 0, -1)
    elif others:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


@pytest.fixture
def file(trusted_folder: Path) -> Path:
    """A file two folders deep."""
    path = trusted_folder / "outer" / "inner" / "file"
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


def test_what_only_we_can_write_is_read(file: Path) -> None:
    assert read_trusted(file) == b"content"
    require_trusted_folder(file.parent)
    for mode in (0o400, 0o644, 0o755):
        file.chmod(mode)
        assert read_trusted(file) == b"content"


MODES = {"ours alone": 0, "group": 0o020, "everyone": 0o002, "sticky": 0o1002, "both": 0o022}


@pytest.mark.parametrize("others", [False, True], ids=["ours", "another's"])
@pytest.mark.parametrize("place", ["file", "inner", "outer"])
@pytest.mark.parametrize("mode", MODES)
def test_each_part_of_the_path_counts(
    file: Path, monkeypatch: pytest.MonkeyPatch, mode: str, place: str, others: bool
) -> None:
    part = {"file": file, "inner": file.parent, "outer": file.parents[1]}[place]
    part.chmod(part.stat().st_mode & 0o777 | MODES[mode])
    belongs_to(part, monkeypatch, others=others)
    if not others and mode == "ours alone":
        assert read_trusted(file) == b"content"
        return
    with pytest.raises(UntrustedFileError) as raised:
        read_trusted(file)
    if others:
        assert re.search(r"belongs to another user \(number \d+\)", str(raised.value))
    else:  # nobody is told to close a folder that all share, as /tmp
        shared = mode == "sticky" and place != "file"
        remedy = "a place outside it would do" if shared else "chmod go-w would mend it"
        assert str(raised.value) == f"{part} can be written by others; {remedy}"


@pytest.mark.parametrize("place", ["file", "inner", "outer"])
@pytest.mark.parametrize("absolute", [False, True])
def test_no_link_is_followed(file: Path, place: str, absolute: bool) -> None:
    part = {"file": file, "inner": file.parent, "outer": file.parents[1]}[place]
    real = part.with_name("real")
    part.rename(real)
    part.symlink_to(real if absolute else "real")
    with pytest.raises(UntrustedFileError, match=f"{re.escape(str(part))} is a link"):
        read_trusted(file)


def test_what_is_no_file_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (os.mkfifo, os.mkdir):  # nobody writes to the pipe: who waits for that, waits for ever
        path = file.with_name(make.__name__)
        make(path, 0o700)
        with pytest.raises(UntrustedFileError, match="no regular file"):
            read_trusted(path)
    with pytest.raises(NotADirectoryError):
        read_trusted(file / "below")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(file.parent)  # a socket's name is short
        server.bind("socket")
        with pytest.raises(OSError, match="No such device"):
            read_trusted(file.with_name("socket"))


def test_what_is_not_there_is_not_distrusted(file: Path) -> None:
    for path in (file.with_name("other"), file.parent / "new" / "file"):
        with pytest.raises(FileNotFoundError):
            read_trusted(path)
    with pytest.raises(FileNotFoundError):
        require_trusted_folder(file.parent / "new")


def test_dots_in_a_path_lead_nowhere_else(file: Path) -> None:
    assert read_trusted(file.parent / ".." / "inner" / "." / "file") == b"content"


def test_a_file_in_the_common_temporary_folder_is_never_trusted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    if not any(parent.stat().st_mode & 0o002 for parent in path.parents):
        pytest.skip("temporary folders are nobody else's here")
    with pytest.raises(UntrustedFileError, match="can be written by others"):
        read_trusted(path)


def exchanged_at(moment: int, file: Path, secret: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Before the system call number `moment` of those that are noted in the list, which is returned, a link
    takes the place of the file."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            if len(calls) == moment:
                file.unlink()
                file.symlink_to(secret)
            calls.append(name)
            return real(*arguments, **options)

        patch.setattr(os, name, call)

    for name in ("open", "fstat"):
        wrap(name)
    return calls


def test_what_is_exchanged_meanwhile_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is judged is what was opened, whatever takes its place between two calls."""
    secret = file.parents[1] / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o666)
    read = 0
    for moment in itertools.count():
        with monkeypatch.context() as patch:
            calls = exchanged_at(moment, file, secret, patch)
            with contextlib.suppress(UntrustedFileError):
                assert read_trusted(file) == b"content"
                read += 1
        if len(calls) <= moment:
            break
        file.unlink()
        file.write_bytes(b"content")
        file.chmod(0o600)
    # It was too late when the file was open, and is not when it is.
    assert (read, moment) == (2, len(calls))
    assert moment > 5
