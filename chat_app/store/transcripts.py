"""The chats on disk: one folder a chat.

    chats/20261123-120501-9f3a1c07/messages.jsonl   append-only, one message a line (transcript_records)
                                   meta.json        title, model, and a cache of what the list of chats shows
                                   lock             held by the one process that may write

Names are generated, never taken from a title. Everything in meta.json but title and model can be found again
from the messages, so damage to it, or failing to write it, loses no word of a chat.
"""

from __future__ import annotations

import builtins
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from chat_app.chat.conversation import Conversation
from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again
from chat_app.store.process_lock import ProcessLock
from chat_app.store.transcript import LOCK, Transcript, TranscriptError, because
from chat_app.store.transcript_meta import MESSAGES, ChatSummary, read_meta, summarise
from chat_app.store.transcript_records import build_conversation, read_records

__all__ = ["ChatSummary", "Transcript", "TranscriptError", "TranscriptStore", "new_chat_id"]

_CHAT_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6,32}")
_TRASH = ".trash-"


def new_chat_id() -> str:
    """UTC time and random digits: `20261123-120501-9f3a1c07`. Sorts by age, and is safe as a file name."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


class TranscriptStore:
    """All chats under one folder. Nothing is created before the first message of a chat is appended."""

    def __init__(self, root: Path, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
        self.root = root
        self._fs = fs

    def create(self, *, model: str, title: str = "") -> Transcript:
        """A new chat, not on disk yet."""
        return Transcript(self.root / new_chat_id(), model=model, title=title, fs=self._fs)

    def open(self, chat_id: str) -> Transcript:
        """A chat to read and continue. Raises TranscriptError where there is none or it cannot be read."""
        transcript = Transcript(self._folder(chat_id), fs=self._fs)
        transcript.load()
        return transcript

    def read(self, chat_id: str) -> Conversation:
        """The messages of a chat, to look at only: nothing is locked or mended. Raises TranscriptError."""
        folder = self._folder(chat_id)
        try:
            records, _ = read_records(again(lambda: self._fs.read(folder / MESSAGES)))
        except FileNotFoundError:
            records = []  # a crash before the first message was written left an empty folder
        except OSError as error:
            raise TranscriptError(f"The chat {chat_id} could not be read: {because(error)}.") from error
        return build_conversation(chat_id, str(read_meta(folder, self._fs).get("title", "")), records)

    def list(self) -> builtins.list[ChatSummary]:
        """Every chat that holds a message, the one last written to first. Unreadable ones are left out."""
        found = [summarise(self.root / chat_id, self._fs) for chat_id in self.ids()]
        return sorted((one for one in found if one), key=lambda one: (one.updated, one.id), reverse=True)

    def ids(self) -> builtins.list[str]:
        """The chats' ids, newest first, without looking inside."""
        try:
            names = os.listdir(self.root)
        except OSError:
            return []
        return sorted((name for name in names if _CHAT_ID.fullmatch(name)), reverse=True)

    def latest(self) -> ChatSummary | None:
        """The chat last written to."""
        return next(iter(self.list()), None)

    def find(self, text: str) -> str:
        """The id that `text` is or begins (or ends). Raises TranscriptError for none or several."""
        ids = self.ids()
        fitting = [one for one in ids if one == text] or [
            one for one in ids if text and (one.startswith(text) or one.endswith(text))
        ]
        if len(fitting) == 1:
            return fitting[0]
        problem = f"{len(fitting)} chats have ids like" if fitting else "There is no chat with the id"
        raise TranscriptError(f"{problem} {text!r}.")

    def delete(self, chat_id: str) -> None:
        """Remove a chat for good; the caller has asked the user. Raises TranscriptError, the chat then whole.

        The folder is renamed first, so that a crash half way leaves no half of a chat in the list.
        """
        folder = self._folder(chat_id)
        lock = ProcessLock(folder / LOCK, self._fs)
        trash = self.root / f"{_TRASH}{chat_id}-{secrets.token_hex(4)}"
        try:
            if not lock.acquire():
                raise TranscriptError("This chat is open, here or in another window; close it there first.")
            if os.name == "nt":
                lock.release()  # an open file pins its folder there
            again(lambda: self._fs.replace(folder, trash))
            again(lambda: self._fs.sync_folder(self.root))
        except OSError as error:
            raise TranscriptError(f"The chat is not deleted: {because(error)}.") from error
        finally:
            lock.release()
        for leftover in self.root.glob(f"{_TRASH}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _folder(self, chat_id: str) -> Path:
        # The pattern also keeps `--resume ../elsewhere` inside the root.
        if not _CHAT_ID.fullmatch(chat_id) or not (self.root / chat_id).is_dir():
            raise TranscriptError(f"There is no chat with the id {chat_id!r}.")
        return self.root / chat_id
