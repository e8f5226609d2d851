"""Prompts to recall with Up and Down, shared by all windows, and text typed but not sent.

To lose the last prompt is a pity and no loss, so a failure to write is reported by returning False, never
raised.
"""

from __future__ import annotations

import sqlite3
import threading

from chat_app.chat.conversation import utc_now
from chat_app.store.database import Database, StoreError
from chat_app.store.records import pack_text, unpack_text


class PromptHistory:
    """The prompts of the past, up to `limit` of them, and a cursor for recalling them.

    `save` False: what is typed now is recalled, but never written.
    """

    def __init__(self, database: Database, limit: int = 1000, *, save: bool = True) -> None:
        self.limit = limit
        self._database = database
        self._save = save
        self._prompts: list[str] | None = None
        self._at: int | None = None
        self._draft = ""
        self._unwritten: list[tuple[str, str]] = []
        self._turn = threading.RLock()

    @property
    def prompts(self) -> list[str]:
        """Oldest first; read at first use, then this instance's own view."""
        if self._prompts is None:
            self._prompts = self._read()
        return self._prompts

    def add(self, prompt: str) -> bool:
        """Remember a prompt that was sent; blank ones and repetitions of the last are not kept.

        True when it is on disk as well; otherwise it is written with the next one. Recalling begins anew.
        """
        with self._turn:
            self._at = None
            return not self.remember(prompt) or (self._save and self.flush())

    def remember(self, prompt: str) -> bool:
        """The same without the disk, and while prompts are recalled; False where it is not kept."""
        with self._turn:
            if not prompt.strip() or self.prompts[-1:] == [prompt]:
                return False
            self.prompts.append(prompt)
            del self.prompts[: -self.limit]
            if self._save:
                self._unwritten.append((prompt, utc_now()))
                del self._unwritten[: -self.limit]
            return True

    def flush(self) -> bool:
        """Write what could not be written before; True when nothing is left."""
        with self._turn:
            if not self._unwritten:
                return True
            try:
                self._database.write(self._write)
            except StoreError:
                return False
            self._unwritten.clear()
            return True

    def older(self, current: str) -> str | None:
        """The prompt before the one recalled, or None at the beginning. `current` is what stands in the
        input: the first step back keeps it as the draft that `newer` returns to."""
        at = len(self.prompts) if self._at is None else self._at
        if at == 0:
            return None
        if self._at is None:
            self._draft = current
        self._at = at - 1
        return self.prompts[self._at]

    def newer(self) -> str | None:
        """The prompt after the one recalled, at the end the draft; None where nothing is being recalled."""
        if self._at is None:
            return None
        self._at += 1
        if self._at < len(self.prompts):
            return self.prompts[self._at]
        self._at = None
        return self._draft

    def _write(self, connection: sqlite3.Connection) -> None:
        for text, time in self._unwritten:
            put_prompt(connection, text, time)
        connection.execute("DELETE FROM prompt WHERE seq <= (SELECT max(seq) FROM prompt) - ?", (self.limit,))

    def _read(self) -> list[str]:
        if not self._database.path.exists():
            return []
        try:
            rows = self._database.read(
                lambda connection: connection.execute(
                    "SELECT text FROM prompt ORDER BY seq DESC LIMIT ?", (self.limit,)
                ).fetchall()
            )
        except StoreError:
            return []
        return [unpack_text(text) for (text,) in reversed(rows)]


class Drafts:
    """What stands in the prompt box, by chat id ("new" where a chat has none yet); the `limit` newest stay.

    `save` False: nothing is written.
    """

    def __init__(self, database: Database, limit: int = 100, *, save: bool = True) -> None:
        self.limit = limit
        self._database = database
        self._save = save

    def save(self, chat_id: str, text: str) -> bool:
        """Keep `text` as the chat's draft; blank text removes it. True when that is on disk."""
        if not self._save:
            return False
        if not text.strip() and not self._database.path.exists():
            return True
        try:
            self._database.write(lambda connection: put_draft(connection, chat_id, text, self.limit))
        except StoreError:
            return False
        return True

    def load(self, chat_id: str) -> str:
        """The chat's draft, or the empty text."""
        if not self._database.path.exists():
            return ""
        try:
            found = self._database.read(
                lambda connection: connection.execute(
                    "SELECT text FROM draft WHERE chat_id = ?", (chat_id,)
                ).fetchone()
            )
        except StoreError:
            return ""
        return unpack_text(found[0]) if found else ""


def put_prompt(connection: sqlite3.Connection, text: str, time: str) -> None:
    """sqlite3.Error."""
    connection.execute("INSERT INTO prompt (text, time) VALUES (?, ?)", (pack_text(text), time))


def put_draft(connection: sqlite3.Connection, chat_id: str, text: str, limit: int) -> None:
    """Replace a chat's draft, by nothing where the text is blank. sqlite3.Error."""
    connection.execute("DELETE FROM draft WHERE chat_id = ?", (chat_id,))
    if text.strip():
        connection.execute("INSERT INTO draft (chat_id, text) VALUES (?, ?)", (chat_id, pack_text(text)))
        connection.execute(
            "DELETE FROM draft WHERE seq <= (SELECT seq FROM draft ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (limit,),
        )
