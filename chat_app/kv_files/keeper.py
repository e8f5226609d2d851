"""Keeps the keys and values of chats on disk, and brings them back.

Writing runs on a thread of its own, at the lowest priority: it reads the cache while the engine goes on,
which is sound because positions that are held are not written again before they are given up, and that is
told (`Held.intact`). Reading runs where the engine runs, before a prompt is computed.

Nothing here is needed: whatever goes wrong, a prompt is computed as if nothing had been kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from chat_app.engines.base import Restored
from chat_app.kv_files.folder import KvFolder
from chat_app.kv_files.model_key import ModelKey
from chat_app.kv_files.reading import LEAST, Filling, Found, find
from chat_app.kv_files.segments import Segment
from chat_app.kv_files.writing import KvJob, KvWriter
from llama_core.engine.text import TextEngine
from llama_core.events import Timings
from llama_core.trusted_files import UntrustedFileError

_log = logging.getLogger(__name__)

# Prompts of fewer tokens do not tell how fast a prompt is read.
TELLING = 16


class KvKeeper:
    """What is kept for one loaded model in `folder`. It belongs to the engine's thread.

    exact: the bits of keys and values do not depend on how a prompt was cut into passes. Then positions of
    another chat are as good, such as those of a shared system prompt. Raises OSError where the model's file
    is gone.
    """

    def __init__(
        self, engine: TextEngine, path: Path, folder: Path, limit_bytes: int, *, exact: bool
    ) -> None:
        self._engine = engine.engine
        self._key = ModelKey(engine, path)
        self._exact = exact
        self._passed_over = False
        self._position_s = 0.0  # seconds for a token of a prompt
        self._place, self._limit_bytes = folder, limit_bytes
        self._writer = KvWriter(lambda: self._folder(self._key.compute()), exact=exact)

    def restore(self, chat_id: str, ids: Sequence[int]) -> Restored | None:
        """Take from the disk what is kept of the first ids and not held already; None where that is nothing
        worth it. What fails means that nothing is kept."""
        if self._passed_over:
            return None
        try:
            folder = self._folder(self._key.known())
            found = folder and find(folder, chat_id, ids, self._engine, exact=self._exact)
            return self._read(folder, found, ids) if folder and found else None
        except (OSError, UntrustedFileError) as error:
            _log.info("keys and values were not read: %s", error)
            return None

    def pass_over(self) -> None:
        """Restore nothing until a reply was computed: the user wants it computed."""
        self._passed_over = True

    def save(self, chat_id: str, timings: Timings) -> None:
        """Have what the context holds after a reply written. Returns at once."""
        self._passed_over = False
        if timings.prompt_n and (timings.prompt_n >= TELLING or not self._position_s):
            self._position_s = timings.prompt_s / timings.prompt_n
        held = self._engine.hold()
        if held is not None and len(held.ids) >= LEAST:
            self._writer.put(KvJob(chat_id, held, self._position_s))

    def close(self) -> None:
        """Wait for what is being written. May be called twice."""
        self._writer.close()

    def _folder(self, key: str) -> KvFolder | None:
        """The files of a key; none while it is not known."""
        return KvFolder(self._place, key, self._limit_bytes) if key else None

    def _read(self, folder: KvFolder, found: Found, ids: Sequence[int]) -> Restored | None:
        before = self._engine.common(ids)
        with folder.open(found.path) as file:
            filling = Filling(file, found)
            after = self._engine.restore(ids, found.to_read[0].start, filling)
        if filling.damaged:
            _log.info("%s is damaged and removed", found.path)
            folder.remove(found.path)
        folder.used(found.path)
        if after <= before:
            return None
        return Restored(after - before, sum(_seconds(one, before, after) for one in found.to_read))


def _seconds(segment: Segment, start: int, stop: int) -> float:
    """The share of a segment's seconds that its positions among start..stop took."""
    n = min(stop, segment.stop) - max(start, segment.start)
    return segment.seconds * max(0, n) / (segment.stop - segment.start)
