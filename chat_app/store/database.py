"""chats.db: one SQLite file for chats, prompts and drafts; how it is opened, written, and kept.

WAL with synchronous FULL: what a transaction has committed survives a crash and a power cut, and readers
never wait for the writer. A process has one writing connection, used by one thread at a time; each reading
opens its own, so that a search and a save do not meet. Nothing is created before something is written.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from chat_app.config.paths import ensure_dir
from chat_app.store.schema import SCHEMA_VERSION, is_intact, migrate
from chat_app.text.errors import SentenceError
from llama_core.ordinary_files import require_ordinary

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

# Who waits longer than this is told that the file is busy; what could not be saved is tried again.
BUSY_S: Final = 1.0


class StoreError(SentenceError):
    """A chat could not be read, written or deleted. The message is a sentence for a person."""


class DamageError(sqlite3.DatabaseError):
    """What SQLite did not notice: the file is not as it was written."""


class Database:
    """One file, for any thread. `notices` are sentences about what befell the file while it was open.

    `fill` is called once, inside the transaction that makes the file: it and what it adds are there together
    or not at all. Where it is given, reading makes the file too.
    """

    def __init__(self, path: Path, fill: Work[None] | None = None) -> None:
        self.path = path
        self.notices: list[str] = []
        self._fill = fill
        self._writer: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._turn = threading.RLock()

    def write(self, work: Work[T], what: str = "Nothing is saved") -> T:
        """Run `work` in one transaction and commit it: durable when this returns.

        Raises StoreError (`what`, and why); then nothing of it is in the file, and a retry is safe.
        """
        with self._turn:
            return self._guarded(lambda: self._transaction(work), what)

    def read(self, work: Work[T], what: str = "The chats could not be read") -> T:
        """Run `work` on one snapshot of the file, an empty one where there is none. Raises StoreError."""
        return self._guarded(lambda: self._snapshot(work), what)

    def mend(self) -> bool:
        """Look through the whole file; whether it was damaged, and is rebuilt now. Raises StoreError."""

        def look(connection: sqlite3.Connection) -> None:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise DamageError(found)

        told = len(self.notices)
        self.read(look)
        return len(self.notices) > told

    def identity(self) -> tuple[int, int] | None:
        """Which file stands at `path` now: what was written to another one has to be written again.

        Raises OSError where it is no file: SQLite would wait for a pipe.
        """
        try:
            require_ordinary(self.path)
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Let go of the file; the next use opens it again. Never raises."""
        with self._turn:
            if self._writer is not None:
                _close(self._writer)
                self._writer = None

    def _guarded(self, run: Callable[[], T], what: str) -> T:
        try:
            try:
                return run()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _is_damage(error):
                    raise
                self._rebuild()
                return run()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{what}: {self._because(error)}.") from error

    def _transaction(self, work: Work[T]) -> T:
        connection = self._open_writer()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:  # Ctrl+C too: no transaction stays open
            # Closing rolls back. After a failure the next attempt begins with the file as it then is.
            self.close()
            raise
        return result

    def _snapshot(self, work: Work[T]) -> T:
        connection = self._open_reader()
        try:
            connection.execute("BEGIN")
            return work(connection)
        finally:
            _close(connection)

    def _open_writer(self) -> sqlite3.Connection:
        identity = self.identity()
        if self._writer is not None and identity != self._identity:
            self.close()  # the file was removed or replaced: what is written to it would be lost
        if self._writer is None:
            if identity is None:
                self._make_file()
            self._writer = self._prepare(self._connect("rw"))
            self._identity = self.identity()
        return self._writer

    def _open_reader(self) -> sqlite3.Connection:
        if self.identity() is None:
            if self._fill is None:
                return self._prepare(sqlite3.connect(":memory:", isolation_level=None))
            self.write(lambda _: None)
        try:
            connection = self._connect("rw")
            found = _version(connection)
        except sqlite3.OperationalError:
            if self._has_log():
                raise
            # A folder in which nothing can be made: SQLite reads there only what it may take for fixed.
            connection = self._connect("ro&immutable=1")
            found = _version(connection)
        if found == SCHEMA_VERSION:
            return _checked(connection)
        _close(connection)
        self.write(lambda _: None)
        return self._connect("rw")

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        # A damaged byte in a text spoils this text, not the reading of all.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        try:
            found = _version(connection)
            if found == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise DamageError("the schema's version is lost")
            if found > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer llama-chat (its schema is {found}, this one knows "
                    f"{SCHEMA_VERSION}): nothing in it is changed. Use the newer one to open it."
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if found < SCHEMA_VERSION:
                migrate(connection, self._fill)
            return _checked(connection)
        except BaseException:  # Ctrl+C too: no half-made connection stays open
            _close(connection)
            raise

    def _make_file(self) -> None:
        """An empty file for its owner alone; the log beside it takes over its mode."""
        ensure_dir(self.path.parent)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return  # another window was quicker

    def _has_log(self) -> bool:
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.exists() and log.stat().st_size > 0

    def _rebuild(self) -> None:
        from chat_app.store.repair import rebuild

        with self._turn:
            self.close()
            self.notices.append(rebuild(self.path))

    def _because(self, error: sqlite3.Error | OSError) -> str:
        """The reason as the end of a sentence."""
        if isinstance(error, OSError):
            words = error.strerror or str(error)
            return words[:1].lower() + words[1:]
        match _primary(error):
            case sqlite3.SQLITE_FULL:
                return "no space left on device"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return f"another program has {self.path} locked"
            case sqlite3.SQLITE_READONLY:
                return f"{self.path} or its folder cannot be written"
            case sqlite3.SQLITE_CANTOPEN:
                return f"{self.path} cannot be opened"
            case sqlite3.SQLITE_IOERR:
                return f"the disk reports an error ({error.sqlite_errorname})"
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return f"{self.path} is damaged"
        return str(error)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 for an error that Python found itself."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code


def _is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    # Python cannot decode SQLite's own message where it quotes what is damaged.
    if isinstance(error, DamageError | UnicodeDecodeError):
        return True
    return _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, if its file has our tables. Raises DamageError."""
    if is_intact(connection):
        return connection
    _close(connection)
    raise DamageError("the file's tables are not those that it was made with")


def _close(connection: sqlite3.Connection) -> None:
    try:
        connection.close()
    except sqlite3.Error:
        return  # a full disk, for one: the log stays beside the file and is read at the next opening
