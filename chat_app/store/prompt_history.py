"""Prompts to recall with Up and Down, shared by all instances of the app.

The history is JSON lines, one `{"prompt": ..., "time": ...}` each, appended under a lock. To lose its last
line is a pity and no loss, so a failure to write is reported by returning False, never raised.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from chat_app.chat.conversation import utc_now
from chat_app.store.durable import AppendFile, make_folder, replace_file
from chat_app.store.file_system import REAL_FILE_SYSTEM, FileSystem, again
from chat_app.store.process_lock import ProcessLock

_LOCK_TIMEOUT_S = 2.0


class PromptHistory:
    """The prompts of the past, up to `limit` of them, and a cursor for recalling them."""

    def __init__(self, path: Path, limit: int = 1000, fs: FileSystem = REAL_FILE_SYSTEM) -> None:
        self.path = path
        self.limit = limit
        self._fs = fs
        self._lock = ProcessLock(path.with_name(path.name + ".lock"), fs)
        self._prompts: list[str] | None = None
        self._at: int | None = None
        self._draft = ""
        self._unwritten: list[bytes] = []
        # `ProcessLock` keeps out other processes, not the other threads of this one.
        self._turn = threading.RLock()

    @property
    def prompts(self) -> list[str]:
        """Oldest first; read from disk at first use, then this instance's own view."""
        if self._prompts is None:
            self._prompts = self._read()[-self.limit :]
        return self._prompts

    def add(self, prompt: str) -> bool:
        """Remember a prompt that was sent; blank ones and repetitions of the last are not kept.

        True when it is on disk as well; otherwise it is written with the next one. Recalling begins anew.
        """
        with self._turn:
            self._at = None
            if not prompt.strip() or self.prompts[-1:] == [prompt]:
                return True
            self.prompts.append(prompt)
            del self.prompts[: -self.limit]
            self._unwritten.append(json.dumps({"prompt": prompt, "time": utc_now()}).encode("ascii") + b"\n")
            del self._unwritten[: -self.limit]
            return self.flush()

    def flush(self) -> bool:
        """Write what could not be written before; True when nothing is left. Waits a while for its turn."""
        with self._turn:
            return self._flush()

    def _flush(self) -> bool:
        try:
            make_folder(self.path.parent, self._fs)
            if not self._lock.acquire(_LOCK_TIMEOUT_S):
                return False
            try:
                while self._unwritten:
                    # Made anew for each line: others write between ours, so nothing of the end is known.
                    AppendFile(self.path, self._fs).append(self._unwritten[0])
                    del self._unwritten[0]
                self._keep_short()
            finally:
                self._lock.release()
        except OSError:
            return not self._unwritten
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

    def _read(self) -> list[str]:
        try:
            data = again(lambda: self._fs.read(self.path))
        except OSError:
            return []
        found = (_prompt_of(line) for line in data.split(b"\n"))
        return [prompt for prompt in found if prompt is not None]

    def _keep_short(self) -> None:
        """Cut the file to the newest prompts once it holds twice too many. Needs the lock."""
        lines = again(lambda: self._fs.read(self.path)).splitlines(keepends=True)
        if len(lines) > 2 * self.limit:
            replace_file(self.path, b"".join(lines[-self.limit :]), self._fs)


def _prompt_of(line: bytes) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    prompt = record.get("prompt") if isinstance(record, dict) else None
    return prompt if isinstance(prompt, str) else None
