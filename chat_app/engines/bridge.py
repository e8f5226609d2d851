"""The sole owner of the engine: one worker thread, a queue of jobs, and a queue of news for the screen.

The screen calls `load`, `reply`, `reset`, `ask`, `cancel`; none of them waits. What happens is appended to a
queue (which costs the worker nothing) that the screen drains on a timer; only what must not wait for the
next tick (the first text, each prompt chunk, every end) also wakes it.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chat_app.engines import messages as news
from chat_app.text.errors import describe_error
from chat_app.tui.lock_turns import LockTurns
from llama_core.events import Event, Finished, LoadProgress, PrefillProgress, TextDelta

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.engine.text import TextEngine

T = TypeVar("T")
OnProgress = Callable[[LoadProgress], None]
EngineFactory = Callable[[Path, "Settings", OnProgress], "TextEngine"]
Generate = Callable[["TextEngine", Callable[[], bool]], Iterator[Event]]

MEMORY_PERIOD_S = 1.0
LOAD_NEWS_PERIOD_S = 0.03


def open_engine(path: Path, settings: Settings, on_progress: OnProgress) -> TextEngine:
    """The real factory. NumPy is imported here, on the worker, long after the first paint."""
    from chat_app.config.paths import get_paths
    from llama_core.engine.load import load_engine

    return load_engine(
        path,
        backend=settings.backend,
        threads=settings.threads,
        ctx_size=settings.ctx_size,
        kv=settings.kv,
        weights=settings.weights,
        tokenizer_path=settings.tokenizer,
        kernel_cache=get_paths().kernels,
        on_progress=on_progress,
    )


def engine_info(engine: TextEngine, path: Path) -> news.EngineInfo:
    """What the screen says about a loaded model."""
    checkpoint = engine.checkpoint
    return news.EngineInfo(
        name=path.stem if path.is_file() else path.name,
        path=path,
        backend=engine.backend,
        threads=engine.model.threads,
        ctx_size=engine.ctx_size,
        file_bytes=checkpoint.file_bytes,
        has_template=engine.template is not None,
        architecture=checkpoint.config.architecture,
        tokenizer=checkpoint.tokenizer.kind,
        template=checkpoint.chat_template or "",
    )


@dataclass(slots=True)
class _Request:
    id: int
    cancelled: threading.Event = field(default_factory=threading.Event)


class EngineBridge:
    """Start it once; `close` cancels what runs and lets the thread go (it is a daemon: quitting never
    waits for more than `timeout`)."""

    def __init__(
        self,
        wake: Callable[[], object],
        factory: EngineFactory = open_engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake = wake
        self._factory = factory
        self._clock = clock
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._news: deque[news.News] = deque()
        self._ids = itertools.count(1)
        self._current: dict[int, _Request] = {}
        self._engine: TextEngine | None = None
        self._memory_due = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    # Called by the screen.

    def load(self, path: Path, settings: Settings) -> None:
        """Load `path` in place of the model there is. News: Loading..., then EngineReady or LoadFailed."""
        self._submit(lambda: self._load(path, settings))

    def reply(self, generate: Generate) -> int:
        """Run `generate(engine, cancelled)` and pass on its events as ReplyEvent, the last of which holds a
        Finished, or a ReplyFailed. Returns the request's id."""
        request = _Request(next(self._ids))
        self._current[request.id] = request
        self._submit(lambda: self._reply(request, generate))
        return request.id

    def cancel(self, request_id: int | None = None) -> None:
        """Stop one request, or all. Each still ends with Finished("cancelled")."""
        for request in list(self._current.values()):
            if request_id in (None, request.id):
                request.cancelled.set()

    def reset(self) -> None:
        """Empty the KV cache, after what runs now. News: CacheReset."""
        self._submit(self._reset)

    def ask(self, question: Callable[[TextEngine], T]) -> Future[T]:
        """The answer of `question(engine)`, computed between two requests on the engine's thread.
        The future raises LookupError where no model is loaded."""
        future: Future[T] = Future()
        self._submit(lambda: self._answer(question, future))
        return future

    def drain(self) -> list[news.News]:
        """All news since the last call, in order."""
        found: list[news.News] = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def close(self, timeout: float = 1.0) -> None:
        """Cancel everything and end the thread; gives up waiting after `timeout` seconds."""
        self._closed = True
        self.cancel()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    # On the worker's thread.

    def _submit(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        self._turns = LockTurns()
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - whatever a job did not expect: the thread goes on
                self._tell(news.EngineTrouble(describe_error(error)))
        self._turns.close()
        if self._engine is not None:
            self._engine.close()

    def _tell(self, item: news.News, *, wake: bool = True) -> None:
        self._news.append(item)
        if wake and not self._closed:
            self._wake()

    def _load(self, path: Path, settings: Settings) -> None:
        started = self._clock()
        due, stage = started, ""

        def on_progress(progress: LoadProgress) -> None:
            nonlocal due, stage
            now = self._clock()
            if now >= due or progress.stage != stage or progress.done_bytes >= progress.total_bytes:
                due, stage = now + LOAD_NEWS_PERIOD_S, progress.stage
                self._tell(news.Loading(progress))

        self._tell(news.Loading(None))
        try:
            # The old model goes first: two at once may not fit into memory.
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            self._engine = self._factory(path, settings, on_progress)
            ready = news.EngineReady(engine_info(self._engine, path), self._clock() - started)
        except Exception as error:  # noqa: BLE001 - whatever a file can provoke belongs on the screen
            self._tell(news.LoadFailed(path, describe_error(error)))
            return
        self._tell(ready)
        self._measure_memory(force=True)

    def _reply(self, request: _Request, generate: Generate) -> None:
        finished = False
        try:
            if self._engine is None:
                raise LookupError("No model is loaded.")
            seen_text = False
            for event in generate(self._engine, request.cancelled.is_set):
                if isinstance(event, Finished):
                    finished = True
                    self._turns.after_reply(event.timings)
                first = isinstance(event, TextDelta) and not seen_text
                seen_text = seen_text or first
                urgent = first or finished or isinstance(event, PrefillProgress)
                self._tell(news.ReplyEvent(request.id, event), wake=urgent)
                self._measure_memory()
            if not finished:
                raise RuntimeError("The engine's stream ended without its last record.")
        except Exception as error:  # noqa: BLE001 - a failed reply is shown; the thread takes the next one
            if not finished:
                self._tell(news.ReplyFailed(request.id, describe_error(error)))
        finally:
            self._current.pop(request.id, None)
        self._measure_memory(force=True)

    def _reset(self) -> None:
        if self._engine is not None:
            self._engine.reset()
            self._tell(news.CacheReset())
            self._measure_memory(force=True)

    def _answer(self, question: Callable[[TextEngine], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            if self._engine is None:
                raise LookupError("No model is loaded.")
            future.set_result(question(self._engine))
        except Exception as error:  # noqa: BLE001 - it is the asker's, carried by the future
            future.set_exception(error)
        self._measure_memory(force=True)  # a question may have moved the cache

    def _measure_memory(self, *, force: bool = False) -> None:
        now = self._clock()
        if self._engine is None or (now < self._memory_due and not force):
            return
        self._memory_due = now + MEMORY_PERIOD_S
        self._tell(news.MemoryMeasured(self._engine.memory()), wake=force)
