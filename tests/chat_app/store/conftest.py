"""File systems that fail on purpose: at the nth call, or by losing power."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.store.file_system import FileSystem

FAULTS = ("ENOSPC", "EIO", "EROFS", "EINTR", "short")
_METHODS = ("open", "read_at", "size", "truncate", "mkdir", "replace", "link", "unlink", "read")


class FaultyFileSystem(FileSystem):
    """The nth call fails (`lasting`: and all that follow, until `heal`). A short write takes half the bytes,
    and the write after it finds the disk full."""

    def __init__(self, nth: int, fault: str, lasting: bool = False) -> None:
        self.nth = nth
        self.fault = fault
        self.lasting = lasting
        self.calls = 0
        self.happened: str | None = None
        self._full_next = False

    def heal(self) -> None:
        self.nth = -1

    def _fails(self, name: str) -> bool:
        self.calls += 1
        due = self.nth >= 0 and (self.calls == self.nth or (self.lasting and self.calls > self.nth))
        if due and self.happened is None:
            self.happened = name
        return due

    def write(self, fd: int, data: bytes) -> int:
        due = self._fails("write")
        if self._full_next:
            self._full_next = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if due and self.fault == "short":
            self._full_next = True
            return super().write(fd, data[: len(data) // 2])
        if due:
            if self.fault != "EINTR":
                super().write(fd, data[: len(data) // 3])  # a failed write may have left something
            self._raise()
        return super().write(fd, data)

    def close(self, fd: int) -> None:
        due = self._fails("close")
        super().close(fd)
        if due and self.fault != "short":
            self._raise()

    def fsync(self, fd: int) -> None:
        if self._fails("fsync") and self.fault != "short":
            self._raise()
        # Not synced for real: that these tests can only fail through this class makes it needless and slow.

    def sync_folder(self, path: Path) -> None:
        if self._fails("sync_folder") and self.fault != "short":
            self._raise()

    def _raise(self) -> None:
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number))


def _failing(name: str) -> Callable[..., Any]:
    def call(self: FaultyFileSystem, *arguments: Any) -> Any:
        if self._fails(name) and self.fault != "short":
            self._raise()
        return getattr(FileSystem, name)(self, *arguments)

    return call


for _name in _METHODS:
    setattr(FaultyFileSystem, _name, _failing(_name))


class QuickFileSystem(FileSystem):
    """The real one without waiting for the disk: for tests in which no power is lost."""

    def fsync(self, fd: int) -> None:
        return

    def sync_folder(self, path: Path) -> None:
        return


class PowerCutFileSystem(FileSystem):
    """Works on real files below `root` and keeps a journal of what surely reached the disk and what not.

    `cut(at, rng, target)` builds the disk as a power cut after `at` events may leave it: of what was not
    synced, names in a folder survive up to some point, and file contents too, the next write being torn, or
    there in length only (NUL bytes).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[tuple[Any, ...]] = []
        self._serial = 0
        self._files: dict[Path, int] = {}
        self._open: dict[int, int] = {}
        self._start: dict[Path, bytes | None] = {
            path: path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
        }
        for path, content in self._start.items():
            if content is not None:
                self._files[path] = self._next()

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def acknowledge(self, message_id: str, content: str) -> None:
        self.events.append(("ack", message_id, content))

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        if path not in self._files:
            self._files[path] = self._next()
            self.events.append(("name", path.parent, path, self._files[path]))
        self._open[fd] = self._files[path]
        return fd

    def write(self, fd: int, data: bytes) -> int:
        count = super().write(fd, data)
        self.events.append(("write", self._open[fd], data[:count]))
        return count

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self.events.append(("truncate", self._open[fd], size))

    def fsync(self, fd: int) -> None:
        self.events.append(("fsync", self._open[fd]))

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self.events.append(("name", path.parent, path, None))

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self._files[target] = self._files.pop(source)
        self.events.append(("rename", source.parent, source, target))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        del self._files[path]
        self.events.append(("forget", path.parent, path))

    def sync_folder(self, path: Path) -> None:
        self.events.append(("sync_folder", path))

    def acknowledged(self, at: int) -> dict[str, str]:
        return {event[1]: event[2] for event in self.events[:at] if event[0] == "ack"}

    def cut(self, at: int, rng: random.Random, target: Path) -> None:
        names: dict[Path, int | None] = {path: self._files_at_start(path) for path in self._start}
        waiting_names: dict[Path, list[tuple[Any, ...]]] = {}
        contents = {
            self._files_at_start(path): data for path, data in self._start.items() if data is not None
        }
        waiting_data: dict[int, list[tuple[Any, ...]]] = {}
        for event in self.events[:at]:
            match event[0]:
                case "name" | "rename" | "forget":
                    waiting_names.setdefault(event[1], []).append(event)
                case "sync_folder":
                    for change in waiting_names.pop(event[1], []):
                        _rename(names, change)
                case "write" | "truncate":
                    waiting_data.setdefault(event[1], []).append(event)
                case "fsync":
                    for change in waiting_data.pop(event[1], []):
                        contents[event[1]] = _change(contents.get(event[1], b""), change)
        for changes in waiting_names.values():
            for change in changes[: rng.randint(0, len(changes))]:
                _rename(names, change)
        for file, changes in waiting_data.items():
            contents[file] = _survivors(contents.get(file, b""), changes, rng)
        for path in sorted(names):
            there = target / path.relative_to(self.root)
            if not there.parent.is_dir():
                continue  # the folder's own name was lost
            if names[path] is None:
                there.mkdir()
            else:
                there.write_bytes(contents.get(names[path], b""))

    def _files_at_start(self, path: Path) -> int | None:
        files = [one for one, content in self._start.items() if content is not None]
        return files.index(path) + 1 if path in files else None


def _rename(names: dict[Path, int | None], change: tuple[Any, ...]) -> None:
    match change:
        case ("name", _, path, file):
            names[path] = file
        case ("rename", _, source, target):
            if source in names:
                names[target] = names.pop(source)
        case ("forget", _, path):
            names.pop(path, None)


def _change(content: bytes, change: tuple[Any, ...]) -> bytes:
    return content + change[2] if change[0] == "write" else content[: change[2]]


def _survivors(content: bytes, changes: list[tuple[Any, ...]], rng: random.Random) -> bytes:
    done = rng.randint(0, len(changes))
    for change in changes[:done]:
        content = _change(content, change)
    if done < len(changes) and changes[done][0] == "write":
        lost = changes[done][2]
        torn = rng.randint(0, len(lost))
        content += rng.choice([b"", lost[:torn], bytes(torn), lost[:torn] + bytes(len(lost) - torn)])
    return content


@pytest.fixture
def faulty_file_system() -> type[FaultyFileSystem]:
    return FaultyFileSystem


@pytest.fixture
def quick() -> QuickFileSystem:
    return QuickFileSystem()


@pytest.fixture
def power_cut_file_system() -> type[PowerCutFileSystem]:
    return PowerCutFileSystem


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> str:
    return str(request.param)
