"""A damaged chats.db: kept aside as it is, and rebuilt from every row that can still be read."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chat_app.files.durable import sync_folder, write_new
from chat_app.store.records import from_row
from chat_app.store.schema import is_intact, migrate
from chat_app.store.text_index import index_message

_TABLES: Final = ("chat", "message", "prompt", "draft")
# Python cannot decode SQLite's own message where it quotes what is damaged.
UNREADABLE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
# Damage may hide what the highest number is: so many without a row end a table.
_GAP: Final = 2000


def rebuild(path: Path) -> str:
    """Put a new file, with all that can be read, in the place of a damaged one. Returns what to say.

    Raises OSError or sqlite3.Error where the copy or the new file cannot be written; the old one then stays.
    Another window that still holds the old file finds the new one at its next message, and writes its whole
    chat into it.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    new = path.with_name(f"{path.name}.new-{stamp}")
    try:
        _copy_with_log(path, aside)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        n_chats, n_messages = _salvage(path, new)
        # The log first: it belongs to the old file, and would be read into the new one.
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        os.replace(new, path)
        sync_folder(path.parent)
    except BaseException:  # Ctrl+C too: no half-made file stays behind
        for end in ("", "-wal", "-shm"):
            Path(f"{new}{end}").unlink(missing_ok=True)
        raise
    return (
        f"{path.name} was damaged. {n_messages:,} messages of {n_chats:,} chats could be read and stand in a "
        f"new one; the damaged file is kept as {aside.name}."
    )


def _copy_with_log(source: Path, target: Path) -> None:
    """Copy the file, and the log beside it where it holds anything."""
    for end in ("", "-wal"):
        try:
            data = Path(f"{source}{end}").read_bytes()
        except FileNotFoundError:
            continue
        if data or not end:
            write_new(Path(f"{target}{end}"), data)


def _salvage(old: Path, new: Path) -> tuple[int, int]:
    """Copy every readable row; returns (chats, messages)."""
    target = sqlite3.connect(new, isolation_level=None)
    try:
        target.execute("PRAGMA synchronous = FULL")
        migrate(target)
        target.execute("BEGIN")
        with _open_damaged(old) as source:
            for table in _TABLES:
                for row in _rows(source, table):
                    _put(target, table, row)
        # A chat whose own row is lost lives on under its id.
        target.execute(
            "INSERT OR IGNORE INTO chat (id, created, updated) "
            "SELECT chat_id, min(time), max(time) FROM message GROUP BY chat_id"
        )
        _close_gaps(target)
        target.execute("COMMIT")
        (n_chats,) = target.execute("SELECT count(*) FROM chat").fetchone()
        (n_messages,) = target.execute("SELECT count(*) FROM message").fetchone()
        return n_chats, n_messages
    finally:
        target.close()


@contextlib.contextmanager
def _open_damaged(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads what it can. Where the first page, which leads to all others, is of no use, it
    reads a copy with the first page of an empty database: the same statements made both."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        copy = Path(folder) / path.name
        _copy_with_log(path, copy)
        if not _knows_its_tables(copy):
            _graft_first_page(copy)
        connection = sqlite3.connect(copy, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        with contextlib.closing(connection):
            yield connection


def _knows_its_tables(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            return is_intact(connection)
        except UNREADABLE:
            return False


def _graft_first_page(path: Path) -> None:
    empty = path.with_name("empty")
    with contextlib.closing(sqlite3.connect(empty, isolation_level=None)) as connection:
        migrate(connection)
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    page = bytearray(empty.read_bytes()[:page_size])
    # The file format's header: the number of pages, and no list of free ones.
    page[28:32] = (path.stat().st_size // page_size).to_bytes(4, "big")
    page[32:40] = bytes(8)
    with path.open("r+b") as file:
        file.write(page)


def _rows(source: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """The rows that can be read, one by one: a damaged page hides its own rows only."""
    try:
        (last,) = source.execute(f"SELECT max(seq) FROM {table}").fetchone()
    except UNREADABLE:
        last = None
    missed, seq = 0, 0
    while seq < (last or 0) or missed < _GAP:
        seq += 1
        try:
            row = source.execute(f"SELECT * FROM {table} WHERE seq = ?", (seq,)).fetchone()
        except UNREADABLE:
            row = None
        missed = 0 if row is not None else missed + 1
        if row is not None:
            yield row


def _close_gaps(target: sqlite3.Connection) -> None:
    """A message whose parent is lost hangs below the one before it; a tip that is lost is forgotten."""
    target.execute(
        """
        UPDATE message SET parent = (
            SELECT id FROM message AS before
            WHERE before.chat_id = message.chat_id AND before.seq < message.seq ORDER BY seq DESC LIMIT 1
        )
        WHERE parent IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM message AS above WHERE above.chat_id = message.chat_id AND above.id = message.parent
        )
        """
    )
    target.execute("UPDATE chat SET tip = NULL WHERE NOT EXISTS (SELECT 1 FROM message WHERE id = tip)")


def _put(target: sqlite3.Connection, table: str, row: sqlite3.Row) -> None:
    """Put a row into the new file, unless damage made it one that does not fit there."""
    values: Mapping[str, Any] = dict(row)
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    with contextlib.suppress(sqlite3.IntegrityError):
        target.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)
        if table == "message" and values["indexed"]:
            record = from_row(values)
            if record is not None:
                index_message(target, values["chat_id"], record.message)
