"""Writing what a context holds to the file of its chat, on a thread that nobody waits for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from chat_app.kv_files import segments
from chat_app.kv_files.folder import KvFolder
from chat_app.kv_files.segments import Segment
from llama_core.engine.context import Held
from llama_core.trusted_files import UntrustedFileError

_log = logging.getLogger(__name__)

# A reply adds one; a file of more is written anew as one.
MOST_SEGMENTS = 32


@dataclass(frozen=True, slots=True)
class KvJob:
    """What is to be kept of a chat. position_s: seconds that reading a token of its prompt takes."""

    chat_id: str
    held: Held
    position_s: float


class KvWriter:
    """Writes one job after the other. `folder` is asked on the writer's thread and may take its time; None:
    nothing is kept. exact: see `KvKeeper`."""

    def __init__(self, folder: Callable[[], KvFolder | None], *, exact: bool) -> None:
        self._folder = folder
        self._exact = exact
        self._jobs: queue.SimpleQueue[KvJob | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, job: KvJob) -> None:
        """Write it, after what waits."""
        if self._thread is None:
            # A daemon: who quits does not wait, and a segment that is cut off counts as none.
            self._thread = threading.Thread(target=self._work, name="kv-files", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Wait until all is written. May be called twice."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        _step_back()
        while (job := self._jobs.get()) is not None:
            try:
                folder = self._folder()
                if folder is not None and job.held.intact:
                    write(folder, job, exact=self._exact)
            except (OSError, UntrustedFileError) as error:
                _log.info("keys and values were not kept: %s", error)
            except Exception:  # noqa: BLE001 - the thread goes on: the next reply may be kept
                _log.exception("keys and values were not kept")
            del job  # and with it what is held


def write(folder: KvFolder, job: KvJob, *, exact: bool) -> None:
    """See that the chat's file holds what the job holds, adding what is new. Raises OSError,
    UntrustedFileError."""
    path = folder.path(job.chat_id)
    with folder.writing(path) as file:
        if file is None:
            return
        kept = _still_right(segments.scan(file, folder.key), job.held, exact=exact)
        start = kept[-1].stop if kept else 0
        if start < len(job.held.ids):
            if len(kept) == MOST_SEGMENTS:
                kept, start = [], 0
            _add(file, folder, kept, start, job)
    folder.used(path)
    folder.make_room(path)


def _still_right(known: list[Segment], held: Held, *, exact: bool) -> list[Segment]:
    """The segments that say what the context says; all of them where they say more."""
    n = segments.common_ids(known, held.ids)
    say_more = n == len(held.ids) and held.state is None
    right = [one for one in known if say_more or one.stop <= n]
    if exact:
        return right
    # Computed in other passes they have other bits, and what is new was computed from those in memory.
    return right if all(segments.agrees(one, held) for one in right) else []


def _add(file: io.FileIO, folder: KvFolder, kept: list[Segment], start: int, job: KvJob) -> None:
    """A segment of what is held from `start` on, behind those that are kept."""
    more = segments.size_of(start, job.held)
    if not folder.has_room((kept[-1].end if kept else 0) + more, more):
        return
    at = kept[-1].end if kept else segments.begin(file, folder.key)
    try:
        segments.append(file, at, start, job.held, job.position_s * (len(job.held.ids) - start))
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(at)
        raise


def _step_back() -> None:
    """Let all other threads go first, where the system knows priorities of threads."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
