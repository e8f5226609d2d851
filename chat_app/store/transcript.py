"""One chat on disk and the promise: a message that `append` has returned for survives crash and power cut."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from chat_app.chat.conversation import Conversation, Message, utc_now
from chat_app.store.durable import AppendFile, make_folder
from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again
from chat_app.store.process_lock import ProcessLock
from chat_app.store.transcript_meta import MESSAGES, read_meta, write_meta
from chat_app.store.transcript_records import Damage, build_conversation, encode_record, read_records
from chat_app.store.transcript_repair import mend, remove_leftovers
from chat_app.text.errors import SentenceError

LOCK = "lock"


class TranscriptError(SentenceError):
    """A chat could not be read, written or deleted. The message is a sentence for a person."""


def because(error: OSError) -> str:
    """The system's reason as the end of a sentence: `no space left on device`."""
    words = error.strerror or str(error)
    return words[:1].lower() + words[1:]


def _summary(damage: Damage) -> list[str]:
    """What to say about a damaged file: one sentence, however many places it has."""
    if not damage.warnings:
        return []
    more = len(damage.warnings) - 1
    others = f" ({more} more like it)" if more else ""
    what = f"This chat's file is damaged: {damage.warnings[0]}{others}"
    return [f"{what} What can be read is shown; a copy is put aside before anything is written."]


class Transcript:
    """One chat, in memory and on disk. Methods may be called from any thread.

    The first to open a chat may write to it. For others `read_only` is True, until an `append` finds the
    writer gone: it then takes over, with all that was written meanwhile. `warnings` are sentences for people.
    """

    def __init__(
        self, folder: Path, *, model: str = "", title: str = "", fs: FileSystem = REAL_FILE_SYSTEM
    ) -> None:
        self.id = folder.name
        self.folder = folder
        self.model = model
        self.created = utc_now()
        self.conversation = Conversation(folder.name, title)
        self.warnings: list[str] = []
        self.read_only = False
        self._fs = fs
        self._lock = ProcessLock(folder / LOCK, fs)
        self._file = AppendFile(folder / MESSAGES, fs)
        self._damage = Damage()
        self._on_disk = False
        self._meta_is_due = False
        self._unsaved: dict[str, Message] = {}
        self._mutex = threading.RLock()

    @property
    def unsaved(self) -> list[Message]:
        """Messages whose `append` has failed so far; the next append, or `retry`, writes them first."""
        with self._mutex:
            return list(self._unsaved.values())

    def load(self) -> None:
        """Read the chat from disk and try to become its writer. Raises TranscriptError; see `store.open`."""
        with self._mutex:
            try:
                self._become_writer()
            except OSError as error:
                self.read_only = True
                self.warnings.append(f"This chat can be read but not continued: {because(error)}.")
            if self.read_only and not self.warnings:
                self.warnings.append("This chat is open in another window, so it is read-only here.")
            try:
                self._read()
            except OSError as error:
                self._lock.release()
                raise TranscriptError(f"The chat {self.id} could not be read: {because(error)}.") from error

    def append(self, message: Message) -> None:
        """Put a message (or its new state) on disk; it is safe there when this returns.

        Raises TranscriptError with the reason. The message then stays in `conversation` and in `unsaved`:
        call again, or `retry`, or just go on, and it is written first.
        """
        with self._mutex:
            if message.id in self.conversation:
                self.conversation.update(message)
            else:
                self.conversation.insert(message)
                self.conversation.select(message.id)
            self._unsaved[message.id] = message
            self._flush()

    def checkpoint(self, message: Message) -> None:
        """Save a reply that is still growing, about once a second. As safe, and as loud, as `append`."""
        self.append(message)

    def retry(self) -> None:
        """Write what could not be written before. Raises TranscriptError again where it still cannot."""
        with self._mutex:
            if self._unsaved:
                self._flush()

    def set_title(self, title: str) -> None:
        """Rename the chat. Raises TranscriptError where the new title could not be saved."""
        with self._mutex:
            self.conversation.title = title
            self._meta_is_due = True
            if self._on_disk and not self._save_meta():
                raise TranscriptError(self.warnings[-1])

    def close(self) -> None:
        """Note title and tip for the next time and let others write. Never raises; may be called twice.

        What could not be saved is tried once more; `unsaved` tells what is still missing."""
        with self._mutex:
            with contextlib.suppress(TranscriptError):
                self.retry()
            if self._on_disk and self._lock.held and not self._unsaved:
                self._save_meta()
            self._lock.release()

    def _flush(self) -> None:
        try:
            if not self._lock.held:
                self._take_over()
            if self._damage.warnings:
                mend(self.folder, self._damage, self._file, self._fs)
                self._damage = Damage()
            while self._unsaved:
                message = next(iter(self._unsaved.values()))
                self._file.append(encode_record(message), create=not self._on_disk)
                del self._unsaved[message.id]
        except FileNotFoundError as error:
            self._start_again()
            raise TranscriptError(
                "The chat's folder has vanished. The next attempt to save writes it anew, with all messages."
            ) from error
        except OSError as error:
            raise TranscriptError(f"The message is not saved: {because(error)}.") from error
        if not self._on_disk or self._meta_is_due:
            self._on_disk = True
            self._save_meta()

    def _take_over(self) -> None:
        """Become the writer now: of a new chat, or of one whose writer has gone since it was opened."""
        if not self._on_disk:
            make_folder(self.folder, self._fs)
        self._become_writer()
        if self.read_only:
            raise TranscriptError("The message is not saved: this chat is open in another window.")
        if self._on_disk:
            self._read()

    def _become_writer(self) -> None:
        self.read_only = not self._lock.acquire()
        if not self.read_only:
            remove_leftovers(self.folder, self._fs)

    def _read(self) -> None:
        """Replace the tree by the file's, then put back what only this process knows and where it stood."""
        try:
            data = again(lambda: self._fs.read(self.folder / MESSAGES))
        except FileNotFoundError:
            if self._on_disk:
                raise
            return  # a crash before the first message was written left an empty folder
        meta = read_meta(self.folder, self._fs)
        records, self._damage = read_records(data)
        tree = build_conversation(self.id, str(meta.get("title", "")), records)
        tip = self.conversation.tip if self._on_disk else meta.get("tip")
        if not self._on_disk and meta.get("bytes") != len(data):
            tip = None  # the chat went on after the note was written: its end is where it stopped
        self.conversation.take_over(tree)
        for message in self._unsaved.values():
            self.conversation.update(message)
        if isinstance(tip, str) and tip in self.conversation:
            self.conversation.select(tip)
        self._on_disk = True
        self.model = str(meta.get("model", self.model))
        self.created = str(meta.get("created") or next((one.time for one in tree), self.created))
        self.warnings += _summary(self._damage)

    def _start_again(self) -> None:
        """Someone removed the folder under us: everything in memory has yet to be written."""
        self._lock.release()
        self._file = AppendFile(self.folder / MESSAGES, self._fs)
        self._damage = Damage()
        self._on_disk = False
        self._unsaved = {message.id: message for message in self.conversation}

    def _save_meta(self) -> bool:
        if not self._lock.held:
            self.warnings.append("The title is not saved: this chat is open in another window.")
            return False
        try:
            write_meta(self.folder, self.conversation, self.model, self.created, self._fs)
        except OSError as error:
            # Nothing of the chat itself is lost, so this must not look like a lost message.
            self._meta_is_due = True
            self.warnings.append(f"The chat's title is not saved: {because(error)}.")
            return False
        self._meta_is_due = False
        return True
