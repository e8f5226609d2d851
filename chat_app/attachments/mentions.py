"""`@path` in a prompt: found where something of that name is there, completed while it is typed.

`@"a name with blanks"` takes quotes. What names no file is ordinary text: `@property`, an address.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from chat_app.attachments.finding import names_something
from chat_app.text.formatting import file_size
from chat_app.text.paths import read_path

_MENTION: Final = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]\S*))')
_OPEN: Final = re.compile(r'(?<!\S)@(?:"([^"\n]*)|([^\s"]*))$')
_BEHIND: Final = ".,;:!?)]}'"  # of a sentence, unless the file's name ends so
MOST_OFFERED: Final = 50


def mentions(text: str) -> list[str]:
    """What the prompt mentions and is there, in order, each once, as it was typed."""
    found = (_named(quoted, bare) for quoted, bare in _MENTION.findall(text))
    return list(dict.fromkeys(name for name in found if name))


def as_mention(name: str) -> str:
    """The mention of a path, in quotes where it holds blanks or ends as a sentence might."""
    needs_quotes = any(one.isspace() for one in name) or name.startswith('"') or name[-1:] in _BEHIND
    return f'@"{name}"' if needs_quotes else f"@{name}"


def offers(text: str) -> list[tuple[str, str]]:
    """What the mention at the end of `text` may become: (the whole text then, what it is).

    A folder's goes on; hidden names come once a dot is typed. Nothing where none is open, or it is whole."""
    open_mention = _OPEN.search(text)
    if open_mention is None:
        return []
    typed = open_mention[1] if open_mention[1] is not None else open_mention[2]
    start = typed.rpartition("/")[2]
    before = typed[: len(typed) - len(start)]
    try:
        with os.scandir(read_path(before or ".") if before != "/" else "/") as entries:
            fitting = [one for one in entries if _fits(one.name, start)]
            fitting.sort(key=lambda one: (not one.name.startswith(start), one.name.casefold()))
            rows = [(one.name, one.is_dir(), _about(one)) for one in fitting[:MOST_OFFERED]]
    except (OSError, ValueError):
        return []
    if len(rows) == 1 and rows[0][0] == start and not rows[0][1]:
        return []
    head = text[: open_mention.start()]
    return [(head + _offered(f"{before}{name}", is_folder), about) for name, is_folder, about in rows]


def offers_of_path(typed: str) -> list[tuple[str, str]]:
    """The same for the last of several paths, as a command takes them."""
    head, blank, last = typed.rpartition(" ")
    if head.count('"') % 2:  # the blank stands in a name
        head, _, last = typed.rpartition('"')
        blank, last = "", f'"{last}'
    return [(f"{head}{blank}{text[1:]}", about) for text, about in offers(f"@{last}")]


def read_names(text: str) -> tuple[str, ...]:
    """The paths that a command names, quoted where they hold blanks. Raises ValueError with a phrase where
    nothing of a name is there."""
    try:
        names = tuple(shlex.split(text))
    except ValueError:
        raise ValueError("a quotation mark is missing") from None
    for name in names:
        if not names_something(name):
            raise ValueError(f"there is no file {name!r}")
    return names


def dropped(text: str) -> str | None:
    """A paste that is nothing but paths of files, as a terminal writes what is dropped on it, as mentions;
    None for any other text. Quotes, backslashes and `file:` addresses are read."""
    if len(text) > 1 << 14 or "\n" in text.strip():
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    paths = [_unaddressed(word) for word in words]
    if not paths or not all(Path(path).is_absolute() and _is_there(path) for path in paths):
        return None
    return " ".join(map(as_mention, paths)) + " "


def _named(quoted: str, bare: str) -> str:
    if quoted:
        return quoted if names_something(quoted) else ""
    while bare:
        if names_something(bare):
            return bare
        if bare[-1] not in _BEHIND:
            return ""
        bare = bare[:-1]
    return ""


def _fits(name: str, start: str) -> bool:
    if name.startswith(".") and not start.startswith("."):
        return False
    return '"' not in name and name.isprintable() and name.casefold().startswith(start.casefold())


def _about(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else file_size(entry.stat().st_size)
    except OSError:
        return ""


def _offered(name: str, is_folder: bool) -> str:
    if is_folder:  # left open, so that one can go on typing
        return f'@"{name}/' if any(one.isspace() for one in name) else f"@{name}/"
    return as_mention(name) + " "


def _unaddressed(word: str) -> str:
    return unquote(urlsplit(word).path) if word.startswith("file:///") else word


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
