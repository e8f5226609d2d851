"""How long a chat has been in the trash, by a clock that may jump.

No single reading of the clock decides what is removed: it may be off by years after an empty battery, and
right again a minute later. At each writing the time since the one before is added to what every chat in the
trash has spent there, at most `LONGEST_S`, and taken away again where the clock went back. So a clock that
jumps there and back costs a chat nothing, however often, and one that stays ahead costs it a few of its days.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from chat_app.chat.conversation import utc_now

_DAY_S: Final = 86_400.0
KEPT_S: Final = 30 * _DAY_S
# What one look at the clock can add. Who writes less often than this keeps the trash for longer.
LONGEST_S: Final = 7 * _DAY_S


def put_into_trash(connection: sqlite3.Connection, chat_id: str) -> int:
    """Returns how many chats have this id: one, or none. sqlite3.Error."""
    count_time(connection)  # what passed before is not this chat's
    changed = connection.execute(
        "UPDATE chat SET deleted = ?, trash_s = 0 WHERE id = ?", (utc_now(), chat_id)
    )
    return changed.rowcount


def count_time(connection: sqlite3.Connection) -> None:
    """Add the time since the last writing to all chats in the trash, or take it away. sqlite3.Error."""
    now_s = time.time()
    row = connection.execute("SELECT seen_s FROM clock WHERE seq = 1").fetchone()
    passed_s = max(-LONGEST_S, min(now_s - row[0], LONGEST_S)) if row else 0.0
    connection.execute("UPDATE chat SET trash_s = max(0, trash_s + ?) WHERE deleted IS NOT NULL", (passed_s,))
    connection.execute("INSERT OR REPLACE INTO clock (seq, seen_s) VALUES (1, ?)", (now_s,))


def overdue(connection: sqlite3.Connection) -> list[str]:
    """The ids of the chats that have been in the trash for `KEPT_S`. sqlite3.Error."""
    rows = connection.execute("SELECT id FROM chat WHERE deleted IS NOT NULL AND trash_s >= ?", (KEPT_S,))
    return [chat_id for (chat_id,) in rows]
