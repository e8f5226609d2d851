"""Mending a damaged transcript before it is written to; what is taken away is copied aside first."""

from __future__ import annotations

import functools
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from chat_app.store.durable import AppendFile, replace_file, write_new
from chat_app.store.file_system import FileSystem, again
from chat_app.store.transcript_records import Damage


def mend(folder: Path, damage: Damage, messages: AppendFile, fs: FileSystem) -> None:
    """Make the file one to which can be appended. Raises OSError; the file is then as it was.

    A torn end goes to `messages.jsonl.torn-...` and is cut off. With other damage the whole file goes to
    `messages.jsonl.damaged-...` and one of all that could be read takes its place.
    """
    path = messages.path
    data = again(lambda: fs.read(path))
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if damage.torn_only:
        write_new(path.with_name(f"{path.name}.torn-{stamp}"), data[damage.keep_bytes :], fs)
        again(lambda: fs.sync_folder(folder))
        messages.truncate(damage.keep_bytes)
    else:
        write_new(path.with_name(f"{path.name}.damaged-{stamp}"), data, fs)
        replace_file(path, damage.mended, fs)


def remove_leftovers(folder: Path, fs: FileSystem) -> None:
    """Remove temporary files that a crash left; only the chat's writer may. Raises OSError."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(".tmp"):
            again(functools.partial(fs.unlink, folder / name))
