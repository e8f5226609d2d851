"""From what a person names (files, folders, globs) to the files that are attached.

Of a folder: every text below it, in order, without hidden files, links, and what .gitignore leaves out. What
is named itself is taken whatever its name, and refused with a sentence where it cannot be read; what a folder
or glob brings and cannot be read is left out and counted.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chat_app.attachments.attachment import Attachment, AttachmentError
from chat_app.attachments.ignored import Ignored
from chat_app.attachments.reading import MOST_BYTES, read_attachment
from chat_app.text.errors import nearest
from chat_app.text.formatting import mib
from chat_app.text.paths import read_path
from chat_app.text.sanitize import clean_line

MOST_FILES: Final = 200
GLOB_MARKS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Found:
    """What was named, read. `notes` are sentences about what was left out."""

    attachments: tuple[Attachment, ...]
    notes: tuple[str, ...] = ()


def attach(names: Iterable[str], *, typed: bool = False) -> Found:
    """Read everything that is named, each file once. `typed`: the names are `@` mentions of a prompt.

    Raises AttachmentError: a file that is not there or cannot be attached, a folder or glob with nothing to
    attach, or more than 200 files or 16 MiB in all.
    """
    taken: dict[str, Attachment] = {}
    notes: list[str] = []
    for name in names:
        mention = name if typed else ""
        path = _expanded(name)
        several = _files_of(name, path)
        if several is None:
            one = read_attachment(path, typed=mention)
            taken.setdefault(one.path, one)
        else:
            _take_several(name, several, mention, taken, notes)
        if sum(one.file_bytes for one in taken.values()) > MOST_BYTES:
            raise AttachmentError(f"The files are larger than {mib(MOST_BYTES)} MiB together.")
    return Found(tuple(taken.values()), tuple(notes))


def names_something(name: str) -> bool:
    """Whether there is a file or folder of this name, or a file that fits this glob."""
    try:
        path = read_path(name)
        return path.exists() or (bool(GLOB_MARKS & set(name)) and next(_matches(path), None) is not None)
    except (ValueError, OSError):
        return False


def _expanded(name: str) -> Path:
    try:
        return read_path(name)
    except ValueError as error:
        raise AttachmentError(f"{clean_line(name)} cannot be attached: {error}.") from None


def _files_of(name: str, path: Path) -> Iterator[Path] | None:
    """The files of a folder or glob; None where one thing is named, which is then read or refused itself."""
    try:
        if path.is_dir():
            folder = Path(os.path.abspath(path))  # without "..", which names no place among the rules
            return _below(folder, Ignored.above(folder))
        if path.exists():
            return None
    except (OSError, ValueError) as error:  # a name that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise AttachmentError(f"{clean_line(name, 120)} cannot be attached: {why}.") from None
    if GLOB_MARKS & set(name):
        return _matches(path)
    raise AttachmentError(f"There is no file {clean_line(name)}.{_near(path)}")


def _take_several(
    name: str, files: Iterator[Path], mention: str, taken: dict[str, Attachment], notes: list[str]
) -> None:
    got = left_out = total_bytes = 0
    for file in files:
        try:
            one = read_attachment(file, typed=mention)
        except AttachmentError:
            left_out += 1
            continue
        got += 1
        total_bytes += one.file_bytes
        taken.setdefault(one.path, one)
        if got > MOST_FILES or total_bytes > MOST_BYTES:
            raise AttachmentError(
                f"{clean_line(name)} holds more than {MOST_FILES} files or {mib(MOST_BYTES)} MiB: name fewer."
            )
    if not got:
        raise AttachmentError(f"There is no text to attach in {clean_line(name)}.")
    if left_out:
        files_were = "1 file is" if left_out == 1 else f"{left_out} files are"
        notes.append(f"Of {clean_line(name)} {files_were} left out: no text, empty, or not readable.")


def _below(folder: Path, ignored: Ignored) -> Iterator[Path]:
    ignored = ignored.within(folder)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.leaves_out(path, is_folder=is_folder):
            continue
        if is_folder:
            yield from _below(path, ignored)
        elif entry.is_file(follow_symlinks=False):  # False for any link, to a folder too
            yield path


def _matches(path: Path) -> Iterator[Path]:
    """The files that fit a glob; `**` goes into folders, hidden ones aside."""
    found = map(Path, sorted(glob.glob(str(path), recursive=True)))
    return (one for one in found if one.is_file())


def _near(path: Path) -> str:
    """ " Did you mean ...?" with the nearest name in its folder, or an empty string."""
    try:
        return nearest(path.name, map(clean_line, os.listdir(path.parent)))
    except OSError:
        return ""
