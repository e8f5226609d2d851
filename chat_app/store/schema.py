"""The tables of chats.db, as the steps that lead from each version of the schema to the next.

A chat is a tree of messages: `parent` is the id of the message above, NULL at a root. A message's columns
are the OpenAI message (`role`, `content`) and what only this app knows of it; details that have no column
stand in `more`. Columns that hold lists or mappings are JSON. Times are ISO 8601 in UTC.

Chats stand in the order of `revision`, a number that grows with each writing: the clock may be set back. What
is imported gets that of the chat before it in time, and among equals `updated` decides. `trash_s` counts the
seconds that a chat has been in the trash, and the one row of `clock` holds when they were last counted, in
seconds since 1970 (trash.py).
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable
from typing import Final

_FIRST: Final = (
    """
    CREATE TABLE chat (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL DEFAULT '',
        kind TEXT NOT NULL DEFAULT 'chat',   -- 'chat', or 'oneshot' for -p
        model TEXT NOT NULL DEFAULT '',
        preset TEXT NOT NULL DEFAULT '',     -- this and the next: not used, a reply's own row tells them
        parameters TEXT,
        pinned INTEGER NOT NULL DEFAULT 0,
        created TEXT NOT NULL DEFAULT '',
        updated TEXT NOT NULL DEFAULT '',    -- when something was last said
        deleted TEXT,                        -- when it was put into the trash
        tip TEXT                             -- the end of the branch last shown
    )
    """,
    """
    CREATE TABLE message (
        seq INTEGER PRIMARY KEY,             -- the order in which they were added
        chat_id TEXT NOT NULL,
        id TEXT NOT NULL,
        parent TEXT,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        time TEXT NOT NULL,
        status TEXT NOT NULL,                -- complete, partial, stopped, failed
        thought TEXT,
        attachments TEXT,                    -- JSON
        ids TEXT,                            -- JSON: the tokens as they were drawn
        model TEXT,
        model_sha256 TEXT,
        parameters TEXT,                     -- JSON
        seed TEXT,                           -- JSON: 64 bits without a sign fit no INTEGER
        stop_reason TEXT,
        timings TEXT,                        -- JSON, llama.cpp's names
        more TEXT,                           -- JSON
        checksum INTEGER NOT NULL,           -- tells a changed text, which SQLite does not
        indexed INTEGER NOT NULL DEFAULT 0,  -- whether `search` holds its text as it is now
        UNIQUE (chat_id, id)
    )
    """,
    "CREATE INDEX message_order ON message (chat_id, seq)",
    "CREATE INDEX message_unindexed ON message (seq) WHERE indexed = 0",
    # Trigrams find any part of a word, and texts without spaces (Chinese, Japanese), as an index of words or
    # of their beginnings does not. The text is folded by Python, which knows more than SQLite (ß is ss).
    "CREATE VIRTUAL TABLE search USING fts5 (text, tokenize = 'trigram case_sensitive 1')",
    "CREATE TABLE prompt (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, time TEXT NOT NULL)",
    "CREATE TABLE draft (seq INTEGER PRIMARY KEY, chat_id TEXT NOT NULL UNIQUE, text TEXT NOT NULL)",
)

_ORDER_WITHOUT_A_CLOCK: Final = (
    "ALTER TABLE chat ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE chat ADD COLUMN trash_s REAL NOT NULL DEFAULT 0",
    "CREATE TABLE clock (seq INTEGER PRIMARY KEY, seen_s REAL NOT NULL)",
    "CREATE INDEX chat_order ON chat (revision)",
    "CREATE INDEX chat_times ON chat (updated)",
    """
    UPDATE chat SET revision = ranked.place
    FROM (SELECT seq, row_number() OVER (ORDER BY updated, id) AS place FROM chat) AS ranked
    WHERE ranked.seq = chat.seq
    """,
)

# The index holds thoughts too: messages that have one are indexed anew when they are next written, and until
# then the search looks at them one by one.
_THOUGHTS_ARE_SEARCHED: Final = ("UPDATE message SET indexed = 0 WHERE thought IS NOT NULL",)

# Never change one that was released: add the next.
MIGRATIONS: Final = (_FIRST, _ORDER_WITHOUT_A_CLOCK, _THOUGHTS_ARE_SEARCHED)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, fill: Callable[[sqlite3.Connection], None] | None = None) -> None:
    """Bring a file to the present schema in one transaction; a new one is filled by `fill`. sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked once more: another window may have done it meanwhile.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version == 0 and fill is not None:
            fill(connection)
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
        connection.execute("COMMIT")
    except BaseException:  # Ctrl+C too: the file is as it was or as it shall be
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_intact(connection: sqlite3.Connection) -> bool:
    """Whether the file's tables are those that the steps above make. sqlite3.Error."""
    return _definitions(connection) >= _expected()


def _definitions(connection: sqlite3.Connection) -> frozenset[str]:
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return frozenset(str(sql) for (sql,) in rows)


@functools.cache
def _expected() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return _definitions(connection)
