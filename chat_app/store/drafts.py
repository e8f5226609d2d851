"""Text typed but not sent, one small file for each chat, so that neither a crash nor a switch loses it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chat_app.store.durable import make_folder, replace_file
from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again

_SUFFIX = ".txt"


class Drafts:
    """The drafts in one folder, by chat id ("new" where a chat has none yet); the `limit` newest are kept."""

    def __init__(self, folder: Path, limit: int = 100, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
        self.folder = folder
        self.limit = limit
        self._fs = fs

    def save(self, chat_id: str, text: str) -> bool:
        """Keep `text` as the chat's draft; blank text removes it. True when that is on disk."""
        path = self._path(chat_id)
        try:
            if not text.strip():
                with contextlib.suppress(FileNotFoundError):
                    again(lambda: self._fs.unlink(path))
                return True
            make_folder(self.folder, self._fs)
            replace_file(path, text.encode("utf-8", "surrogatepass"), self._fs)
            self._keep_few()
        except OSError:
            return False
        return True

    def load(self, chat_id: str) -> str:
        """The chat's draft, or the empty text."""
        try:
            data = again(lambda: self._fs.read(self._path(chat_id)))
            return data.decode("utf-8", "surrogatepass")
        except (OSError, UnicodeDecodeError):
            return ""

    def _path(self, chat_id: str) -> Path:
        if not chat_id.replace("-", "").isalnum():
            raise ValueError(f"{chat_id!r} is no chat id")
        return self.folder / f"{chat_id}{_SUFFIX}"

    def _keep_few(self) -> None:
        entries = [entry for entry in os.scandir(self.folder) if entry.is_file(follow_symlinks=False)]
        entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns, reverse=True)
        for entry in entries[self.limit :]:
            self._fs.unlink(Path(entry.path))
